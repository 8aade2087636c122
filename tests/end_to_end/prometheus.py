"""A real Prometheus over a real system, with the project's own rules."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from tests.end_to_end.system import ROOT, Process, environment, free_ports, wait_until_ready

MISSING = "Prometheus is not installed (Debian package `prometheus`): what it would scrape is not checked"


def installed() -> bool:
    """Whether there is one to run."""
    return shutil.which("prometheus") is not None


class Prometheus:
    """Its HTTP API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def _get(self, path: str, **parameters: Any) -> Any:
        with urlopen(f"{self.url}{path}?{urlencode(parameters)}", timeout=10) as response:
            body = json.load(response)
        assert body["status"] == "success", body
        return body["data"]

    def query(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """An instant vector, or a scalar as a vector of one: labels and value."""
        data = self._get("/api/v1/query", query=expr)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(entry["metric"], float(entry["value"][1])) for entry in data["result"]]

    def value(self, expr: str) -> float:
        """The one value of an expression."""
        ((_, value),) = self.query(expr)
        return value

    def targets(self) -> list[dict[str, Any]]:
        """The active targets."""
        return list(self._get("/api/v1/targets")["activeTargets"])

    def rules(self) -> list[dict[str, Any]]:
        """Every rule it has loaded."""
        return [rule for group in self._get("/api/v1/rules")["groups"] for rule in group["rules"]]


_VARIABLES = {"$__rate_interval": "20s", "$__interval": "5s", "$__range": "5m"}


def panel_exprs() -> list[tuple[str, str]]:
    """(panel title, expr with everything chosen) of every target of the dashboard."""
    panels = json.loads((ROOT / "grafana/dashboard.json").read_text())["panels"]
    return [(panel["title"], _filled_in(target["expr"])) for panel in panels for target in panel.get("targets", ())]


def _filled_in(expr: str) -> str:
    for name, value in _VARIABLES.items():
        expr = expr.replace(name, value)
    return re.sub(r"\$\{?\w+(:\w+)?\}?", ".+", expr)


@contextmanager
def prometheus(folder: Path, *, api: int, api_metrics: int, worker: int) -> Iterator[Prometheus]:
    """With prometheus.yml as it is shipped, the names of compose's hosts replaced by addresses here."""
    (port,) = free_ports(1)
    text = (ROOT / "prometheus.yml").read_text()
    for name, address in (("api:2112", api_metrics), ("worker:2113", worker), ("api:8080", api)):
        text = text.replace(name, f"127.0.0.1:{address}")
    config = yaml.safe_load(text)
    config["rule_files"] = [str(ROOT / "alerts.yml")]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
    ]
    process = Process(command, log=folder / "prometheus.log", env=environment())
    try:
        wait_until_ready(f"http://127.0.0.1:{port}/-/ready", process=process)
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        process.stop()
        process.kill()
