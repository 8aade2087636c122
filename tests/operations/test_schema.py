"""grafana/dashboard.json, held against the types of Grafana's own code (@grafana/schema) by tsc."""

import importlib.util
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from .files import ROOT, text

PICTURE = ROOT / "grafana/picture"

pytestmark = pytest.mark.skipif(
    not (PICTURE / "node_modules/typescript").is_dir(), reason="npm ci has not been run in grafana/picture"
)


@pytest.fixture(scope="module")
def complaints() -> Callable[[str], list[str]]:
    spec = importlib.util.spec_from_file_location("check", PICTURE / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.complaints


def test_the_dashboard_is_what_grafana_takes(complaints):
    assert complaints(text("grafana/dashboard.json")) == []


def test_each_thing_that_is_wrong_is_seen(complaints):
    broken = json.loads(text("grafana/dashboard.json"))
    for place, key, value in DAMAGE:
        place(broken)[key] = value
    del of("table", 0)(broken)["options"]["frameIndex"]
    lines = json.dumps(broken, indent=2)
    numbers = [re.match(r"dashboard\.json\.ts\((\d+),", line) for line in complaints(lines)]
    seen = [lines.splitlines()[int(number[1]) - 1].split('"')[1] for number in numbers if number]
    assert sorted(seen) == sorted(["options", *(key for _, key, _ in DAMAGE)])


Json = dict[str, Any]
Place = Callable[[Json], Json]


def of(kind: str, nth: int, *path: str | int) -> Place:
    """A place in the nth panel of a kind."""

    def place(dashboard: Json) -> Json:
        found: Any = [panel for panel in dashboard["panels"] if panel["type"] == kind][nth]
        for step in path:
            found = found[step]
        return found

    return place


DAMAGE: list[tuple[Place, str, object]] = [
    (lambda dashboard: dashboard, "refresh", 5),
    (lambda dashboard: dashboard["time"], "until", "now"),
    (lambda dashboard: dashboard["templating"]["list"][1], "hide", 9),
    (lambda dashboard: dashboard["annotations"]["list"][1], "expr", "up"),
    (of("stat", 0, "options"), "wideLayout", "yes"),
    (of("stat", 1, "options"), "colorMode", "rainbow"),
    (of("stat", 2, "options"), "graphMod", "area"),
    (of("stat", 3, "options", "reduceOptions"), "calcs", "lastNotNull"),
    (of("stat", 4, "fieldConfig", "defaults", "thresholds", "steps", 0), "color", None),
    (of("stat", 5, "gridPos"), "w", "4"),
    (of("bargauge", 0, "options"), "minVizHeight", "8"),
    (of("table", 0, "fieldConfig", "overrides", 0, "properties", 0), "id", "unti"),
    (of("table", 1, "fieldConfig", "defaults", "custom"), "align", "middle"),
    (of("table", 2, "targets", 0), "format", "tables"),
    (of("timeseries", 0, "options", "tooltip"), "mode", "all"),
    (of("timeseries", 1, "fieldConfig", "defaults", "custom"), "lineWidth", "1"),
    (of("timeseries", 2, "fieldConfig", "defaults", "custom"), "lineWitdh", 1),
    (of("timeseries", 3, "fieldConfig", "defaults", "custom", "stacking"), "group", 1),
    (of("timeseries", 4, "targets", 0), "instant", "no"),
]
