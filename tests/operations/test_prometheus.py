"""prometheus.yml, loaded by a real Prometheus: every process is scraped, and once."""

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.error import URLError
from urllib.request import urlopen

import trio
import yaml

from .files import COMPOSE, ROOT, load, needs_prometheus, needs_promtool, text

[README] = re.findall(r"```yaml\n(# prometheus.yml\n.*?)```", text("README.md"), re.DOTALL)
JOBS = {job["job_name"]: job for job in load("prometheus.yml")["scrape_configs"]}
STATIC = {name: job["static_configs"][0]["targets"][0] for name, job in JOBS.items()}


@needs_promtool
def test_promtool_accepts_the_configuration():
    done = subprocess.run(
        ["promtool", "check", "config", "prometheus.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_the_static_targets_are_the_services_of_the_compose_file():
    assert set(JOBS) == {"taskward-api", "taskward-worker"}
    for target in STATIC.values():
        host, port = target.split(":")
        service = COMPOSE["services"][host]
        assert service["hostname"] == host, "what it announces itself by"
        assert service["environment"]["METRICS_ADDR"] == f":{port}"


def test_it_scrapes_every_two_seconds():
    assert load("prometheus.yml")["global"]["scrape_interval"] == "2s"


@needs_prometheus
async def test_a_process_that_is_static_and_announced_is_scraped_once(tmp_path):
    with serving() as (port, announced):
        api, worker, second = (f"127.0.0.{n}:{port}" for n in (1, 2, 3))
        announced[:] = [
            {"targets": [api], "labels": {"job": "taskward-api"}},
            {"targets": [worker, second], "labels": {"job": "taskward-worker", "worker_id": "w1"}},
        ]
        config = (ROOT / "prometheus.yml").read_text(encoding="utf-8").replace("api:8080", api)
        config = config.replace(STATIC["taskward-api"], api).replace(STATIC["taskward-worker"], worker)
        with prometheus(config, tmp_path) as address:
            assert await scraped(address, at_least=3) == [
                ("taskward-api", f"http://{api}/metrics"),
                ("taskward-worker", f"http://{worker}/metrics"),
                ("taskward-worker", f"http://{second}/metrics"),
            ]


def test_the_configurations_stay_valid_with_what_is_commented_out(tmp_path):
    token = tmp_path / "token"
    token.write_text("tw_x")
    commented = r"^( *)# (authorization|alerting|  alertmanagers|    - static_configs|        - targets)"
    for name, config in (("compose", text("prometheus.yml")), ("readme", README)):
        config = re.sub(commented, r"\1\2", config, flags=re.MULTILINE)
        path = tmp_path / f"{name}.yml"
        path.write_text(re.sub(r"credentials_file: [^}]*", f"credentials_file: {token}", config))
        (tmp_path / "alerts.yml").write_text(text("alerts.yml"))
        loaded = yaml.safe_load(path.read_text())
        [http_sd] = loaded["scrape_configs"][0]["http_sd_configs"]
        assert http_sd["authorization"] == {"credentials_file": str(token)}
        if promtool := shutil.which("promtool"):
            subprocess.run([promtool, "check", "config", path], check=True, capture_output=True, timeout=60)
    assert "alerting" in yaml.safe_load((tmp_path / "compose.yml").read_text())


@needs_prometheus
async def test_the_readme_s_configuration_scrapes_every_announced_process_once(tmp_path):
    with serving() as (port, announced):
        api, worker, second = (f"127.0.0.{n}:{port}" for n in (1, 2, 3))
        announced[:] = [
            {"targets": [api], "labels": {"job": "taskward-api"}},
            {"targets": [worker, second], "labels": {"job": "taskward-worker"}},
        ]
        with prometheus(README.replace("127.0.0.1:8080", api), tmp_path) as address:
            assert await scraped(address, at_least=3) == [
                ("taskward-api", f"http://{api}/metrics"),
                ("taskward-worker", f"http://{worker}/metrics"),
                ("taskward-worker", f"http://{second}/metrics"),
            ]


async def scraped(address: str, *, at_least: int) -> list[tuple[str, str]]:
    """(job, URL) of the active targets, as soon as there are so many and all of them have been scraped."""
    with trio.fail_after(30):
        while True:
            targets = await trio.to_thread.run_sync(active, address)
            if len(targets) >= at_least and all(target["health"] == "up" for target in targets):
                return sorted((target["labels"]["job"], target["scrapeUrl"]) for target in targets)
            await trio.sleep(0.1)  # Prometheus does not tell


def active(address: str) -> list[dict[str, object]]:
    try:
        with urlopen(f"http://{address}/api/v1/targets?state=active", timeout=5) as response:
            return json.load(response)["data"]["activeTargets"]
    except (URLError, ConnectionError):
        return []


@contextmanager
def serving() -> Iterator[tuple[int, list[dict[str, object]]]]:
    """A server on every loopback address that is scraped and answers with the list of who is announced."""
    announced: list[dict[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            listing = self.path == "/prometheus/targets"
            self.send_response(200)
            self.send_header("Content-Type", "application/json" if listing else "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(json.dumps(announced).encode() if listing else b"queue_depth 1\n")

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("0.0.0.0", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1], announced
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def prometheus(config: str, directory: Path) -> Iterator[str]:
    """A Prometheus with this configuration. -> its address"""
    (directory / "prometheus.yml").write_text(config, encoding="utf-8")
    (directory / "alerts.yml").write_bytes((ROOT / "alerts.yml").read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = "{}:{}".format(*probe.getsockname())
    command = [
        "prometheus",
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address={address}",
        "--log.level=error",
    ]
    with subprocess.Popen(command) as process:
        try:
            yield address
        finally:
            process.terminate()
            process.wait(timeout=30)
