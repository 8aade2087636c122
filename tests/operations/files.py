"""The files under test, read once."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
needs_prometheus = pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed")


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def load(path: str) -> Any:
    return yaml.safe_load(text(path))


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """Rules of alerts.yml by name; `kind` is alert or record."""
    return {rule[kind]: rule for group in load("alerts.yml")["groups"] for rule in group["rules"] if kind in rule}


ALERTS = rules("alert")
RECORDS = rules("record")
DASHBOARD = json.loads(text("grafana/dashboard.json"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
COMPOSE = load("docker-compose.yml")
RUNBOOKS = text("docs/runbooks.md")


def panel_exprs() -> list[tuple[str, str]]:
    """(panel title, expr as Prometheus gets it) of every target."""
    return [(panel["title"], interpolated(t["expr"])) for panel in PANELS for t in panel["targets"]]


def annotation_exprs() -> list[tuple[str, str]]:
    """(annotation name, expr) of every annotation that is a query."""
    return [(a["name"], a["target"]["expr"]) for a in DASHBOARD["annotations"]["list"] if "target" in a]


def rule_exprs() -> list[tuple[str, str]]:
    """(rule name, expr) of every alert and recording rule."""
    return [(name, rule["expr"]) for name, rule in (ALERTS | RECORDS).items()]


def runbook_exprs() -> list[tuple[str, str]]:
    """(the line, the line) of every PromQL line of the runbooks."""
    blocks = re.findall(r"```promql\n(.*?)```", RUNBOOKS, re.DOTALL)
    return [(line, line) for block in blocks for line in block.splitlines()]


def interpolated(expr: str) -> str:
    """What Grafana makes of an expr at a range of 15 minutes."""
    return expr.replace("$__rate_interval", "8s")


def limit_of(alert: str) -> float:
    """The number an alert's expr compares its value with: the last comparison of the first line that has one."""
    found = re.search(r"[<>]=? *([0-9.]+)(?: \* ([0-9.]+))?\s*$", ALERTS[alert]["expr"].strip(), re.MULTILINE)
    assert found, alert
    return float(found[1]) * float(found[2] or 1)
