"""A whole Taskward as its users start it: `taskward dev` as a process of its own, on free ports, and a client."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tests.support.ports import free_ports

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60.0


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without settings of Taskward, and with these."""
    drop = re.compile(r"^(REDIS_URL|API_|METRICS_|OTEL_|WORKER_|LEASE_|TASKWARD_)")
    return {k: v for k, v in os.environ.items() if not drop.match(k)} | {"PYTHONUNBUFFERED": "1"} | settings


def taskward(*words: str) -> list[str]:
    """The command line of a `taskward` command."""
    return [sys.executable, "-m", "taskward", *words]


class Process:
    """A child with its output in a file."""

    def __init__(self, command: Sequence[str], *, log: Path, env: dict[str, str]) -> None:
        self._log = log.open("wb")
        self.log = log
        self.popen = subprocess.Popen(command, cwd=ROOT, stdout=self._log, stderr=subprocess.STDOUT, env=env)

    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    def stop(self, *, seconds: float = 30.0) -> int:
        """SIGTERM, and wait. -> the exit code"""
        self.popen.send_signal(signal.SIGTERM)
        return self.wait(seconds=seconds)

    def wait(self, *, seconds: float = 30.0) -> int:
        """-> the exit code; fails where it does not end."""
        return self.popen.wait(timeout=seconds)

    def kill(self) -> None:
        """kill -9, if it still runs."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait(timeout=10)
        self._log.close()


class Api:
    """The HTTP API, as curl sees it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def call(self, method: str, path: str, body: Any = None, *, timeout: float = 70.0) -> tuple[int, Any]:
        """-> status, the body as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
        request = Request(self.url + path, data=data, method=method, headers={"Content-Type": kind})
        try:
            with urlopen(request, timeout=timeout) as response:
                return response.status, _json(response.read())
        except HTTPError as error:
            with error:
                return error.code, _json(error.read())

    def get(self, path: str) -> Any:
        """The body of a 200."""
        status, body = self.call("GET", path)
        assert status == 200, (path, status, body)
        return body

    def submit_many(self, tasks: list[dict[str, Any]]) -> list[str]:
        """One batch. -> the ids, all of them accepted."""
        status, body = self.call("POST", "/tasks/batch", tasks)
        assert status == 200, body
        assert all(item["status"] in (200, 202) for item in body["results"]), body
        return [item["id"] for item in body["results"]]

    def until_done(self, ids: Sequence[str], *, seconds: float = 60.0) -> dict[str, Any]:
        """Wait until every task is terminal. -> by id"""
        until = time.monotonic() + seconds
        done: dict[str, Any] = {}
        while True:
            for id in ids:
                if id not in done and (task := self.get(f"/tasks/{id}"))["terminal"]:
                    done[id] = task
            if len(done) == len(set(ids)):
                return done
            assert time.monotonic() < until, f"{len(ids) - len(done)} of {len(ids)} not done"
            time.sleep(0.1)


class Cluster:
    """A server, and as many APIs and workers as a test wants, each a process that can be killed by itself."""

    def __init__(self, folder: Path, redis_url: str, **settings: str) -> None:
        self.folder = folder
        self.settings = {"REDIS_URL": redis_url} | settings
        self.processes: list[Process] = []

    def api(self) -> tuple[Process, Api]:
        """One more API, ready."""
        port, metrics = free_ports(2)
        process = self._start("api", API_ADDR=f"127.0.0.1:{port}", METRICS_ADDR=f"127.0.0.1:{metrics}")
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", process=process)
        return process, Api(f"http://127.0.0.1:{port}")

    def worker(self, app: str = "examples.app:app", *, ready: bool = True) -> tuple[Process, Api]:
        """One more worker, ready; and its scrape port."""
        (metrics,) = free_ports(1)
        process = self._start("worker", "--app", app, METRICS_ADDR=f"127.0.0.1:{metrics}")
        if ready:
            wait_until_ready(f"http://127.0.0.1:{metrics}/readyz", process=process)
        return process, Api(f"http://127.0.0.1:{metrics}")

    def _start(self, *words: str, **settings: str) -> Process:
        log = self.folder / f"{words[0]}-{len(self.processes)}.log"
        process = Process(taskward(*words), log=log, env=environment(**self.settings | settings))
        self.processes.append(process)
        return process

    def close(self) -> None:
        """End all that still run."""
        for process in self.processes:
            process.kill()


def wait_until_ready(url: str, *, process: Process, seconds: float = READY_SECONDS) -> None:
    """Until GET url answers 200."""
    until = time.monotonic() + seconds
    while True:
        assert process.popen.poll() is None, process.output()
        try:
            with urlopen(url, timeout=2) as response:
                if response.status == 200:
                    return
        except (HTTPError, URLError, OSError):
            pass
        assert time.monotonic() < until, process.output()
        time.sleep(0.05)


@contextmanager
def dev(folder: Path, **settings: str) -> Iterator[tuple[Process, Api, dict[str, int]]]:
    """`taskward dev`: the process, the API, and its ports (api, api_metrics, worker_metrics)."""
    api, api_metrics, worker_metrics = free_ports(3)
    command = taskward(
        *("dev", "--data", str(folder / "data"), "--api-addr", f"127.0.0.1:{api}"),
        *("--api-metrics", f"127.0.0.1:{api_metrics}", "--worker-metrics", f"127.0.0.1:{worker_metrics}"),
    )
    process = Process(command, log=folder / "dev.log", env=environment(**settings))
    try:
        wait_until_ready(f"http://127.0.0.1:{worker_metrics}/readyz", process=process)
        wait_until_ready(f"http://127.0.0.1:{api}/readyz", process=process)
        ports = {"api": api, "api_metrics": api_metrics, "worker": worker_metrics}
        yield process, Api(f"http://127.0.0.1:{api}"), ports
    finally:
        if process.popen.poll() is None:
            process.popen.send_signal(signal.SIGTERM)
            try:
                process.popen.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


def _json(body: bytes) -> Any:
    return json.loads(body) if body else None
