"""How the dashboard's panels look, and where they stand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from string import ascii_uppercase
from typing import Any

from frame import RUNBOOKS, SOURCE, link

Panel = dict[str, Any]
Query = tuple[str, str]

COLUMNS = 24
MATCHERS = {
    "{@tp": '{job=~"$job", instance=~"$instance", type=~"$type", priority=~"$priority"',
    "{@p": '{job=~"$job", instance=~"$instance", priority=~"$priority"',
    "{@t": '{job=~"$job", instance=~"$instance", type=~"$type"',
    "{@": '{job=~"$job", instance=~"$instance"',
}
# How high an axis reaches at least: Grafana draws a line at 0 under an axis up to 100.
LEAST_TOP = {"short": 1, "ops": 1, "reqps": 1, "percentunit": 0.1, "s": 0.001, "bytes": 1024}
# What has a name here has the same colour in every panel; the rest takes Grafana's palette.
COLORS = {
    "high": "orange",
    "default": "blue",
    "low": "purple",
    "succeeded": "green",
    "failed": "red",
    "dead": "dark-red",
    "cancelled": "purple",
    "expired": "yellow",
    "scheduled": "purple",
    "queued": "blue",
    "running": "green",
    "retrying": "yellow",
    "retry_wait": "yellow",
    "p50": "green",
    "p95": "yellow",
    "p99": "orange",
    "enqueued": "blue",
    "dequeued": "green",
    "busy": "green",
    "total": "blue",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels below it, which are laid out left to right."""

    title: str
    panels: list[Panel]


def place(rows: Sequence[Row]) -> list[Panel]:
    """All panels with their ids and places: a line is full at 24 columns, and as high as its first panel."""
    placed: list[Panel] = []
    ids, y = count(1), 0
    for row in rows:
        heading = {"type": "row", "title": row.title, "collapsed": False, "panels": []}
        placed.append({"id": next(ids), **heading, "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y}})
        x, y, height = 0, y + 1, 0
        for panel in row.panels:
            size = panel["gridPos"]
            if x + size["w"] > COLUMNS:
                x, y = 0, y + height
            placed.append({"id": next(ids), **panel, "gridPos": {**size, "x": x, "y": y}})
            x, height = x + size["w"], size["h"]
        y += height
    return placed


def stat(
    title: str,
    text: str,
    unit: str,
    expr: str,
    *,
    amber: float | None = None,
    red: float | None = None,
    low: float | None = None,
    alert: str = "",
) -> Panel:
    """One number with its recent past. It turns red at `red`, or below `low`."""
    steps = _steps(("green", None), ("yellow", amber), ("red", red))
    if low is not None:
        steps = _steps(("red", None), ("green", low))
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value" if len(steps) > 1 else "none",
        "graphMode": "area",
        "textMode": "auto",
        "justifyMode": "auto",
        "orientation": "auto",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
    }
    defaults = {"unit": unit, "color": {"mode": "thresholds"}, "thresholds": steps, "noValue": "-"}
    return _panel("stat", title, text, [_target(expr)], defaults, options, width=4, height=4, alert=alert)


def lines(
    title: str,
    text: str,
    unit: str,
    queries: Sequence[Query],
    *,
    stacked: bool = False,
    exemplars: bool = False,
    limit: float | None = None,
    alert: str = "",
    width: int = 8,
) -> Panel:
    """Lines over time, from zero; `limit` is drawn as a dashed red line."""
    custom = {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 30 if stacked else 10,
        "gradientMode": "none",
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "off" if limit is None else "dashed"},
        "axisSoftMax": LEAST_TOP[unit],
    }
    defaults = {
        "unit": unit,
        "min": 0,
        "color": {"mode": "palette-classic"},
        "custom": custom,
        "thresholds": _steps(("transparent", None), ("red", limit)),
    }
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    targets = [
        _target(expr, legend=legend, ref=ref, exemplar=exemplars)
        for ref, (expr, legend) in zip(ascii_uppercase, queries, strict=False)
    ]
    names = [legend for _, legend in queries]
    return _panel(
        "timeseries", title, text, targets, defaults, options, _colors(names), width=width, height=7, alert=alert
    )


def bars(
    title: str,
    text: str,
    unit: str,
    queries: Sequence[Query],
    *,
    heatmap: bool = False,
    width: int = 8,
    height: int = 7,
) -> Panel:
    """Horizontal bars of what is now. With `heatmap` Grafana turns cumulative buckets into single ones."""
    form = "heatmap" if heatmap else "time_series"
    targets = [
        _target(expr, legend=legend, ref=ref, instant=True, form=form)
        for ref, (expr, legend) in zip(ascii_uppercase, queries, strict=False)
    ]
    color = {"mode": "fixed", "fixedColor": "blue"}
    defaults = {"unit": unit, "min": 0, "color": color, "thresholds": _steps(("green", None)), "noValue": "0"}
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "horizontal",
        "displayMode": "gradient",
        "valueMode": "text",
        "namePlacement": "left",
        "showUnfilled": True,
        "text": {"titleSize": 12, "valueSize": 16},
        "sizing": "auto",
        "minVizHeight": 8,
        "minVizWidth": 8,
        "maxVizHeight": 300,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
    }
    names = [legend for _, legend in queries]
    return _panel("bargauge", title, text, targets, defaults, options, _colors(names), width=width, height=height)


def table(
    title: str,
    text: str,
    exprs: Sequence[str],
    *,
    columns: Mapping[str, str],
    units: Mapping[str, str],
    limits: Mapping[str, float] | None = None,
    words: Mapping[str, Mapping[str, tuple[str, str]]] | None = None,
    sort: str,
    runbooks: str = "",
    width: int,
    height: int,
) -> Panel:
    """Queries side by side, a row for each set of labels. `columns` names what is kept, in order.

    A cell turns red at its column's limit; `words` says text and colour for a value; `runbooks` is the column of
    alert names.
    """
    overrides = [_override(name, {"unit": unit}) for name, unit in units.items()]
    for name, limit in (limits or {}).items():
        overrides.append(_override(name, {"thresholds": _steps(("text", None), ("red", limit)), **_COLORED}))
    for name, texts in (words or {}).items():
        shown = {value: {"text": word, "color": color, "index": 0} for value, (word, color) in texts.items()}
        overrides.append(_override(name, {"mappings": [{"type": "value", "options": shown}], **_COLORED}))
    if runbooks:
        runbook = {"title": "Runbook", "url": f"{RUNBOOKS}#${{__value.raw}}", "targetBlank": True}
        overrides.append(_override(runbooks, {"links": [runbook]}))
    targets = [
        _target(expr, ref=ref, instant=True, form="table") for ref, expr in zip(ascii_uppercase, exprs, strict=False)
    ]
    organized = {
        "includeByName": dict.fromkeys(columns, True),
        "indexByName": {name: i for i, name in enumerate(columns)},
        "renameByName": dict(columns),
    }
    defaults = {
        "color": {"mode": "thresholds"},
        "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False, "minWidth": 80},
        "thresholds": _steps(("text", None)),
    }
    options = {
        "showHeader": True,
        "cellHeight": "sm",
        "frameIndex": 0,
        "sortBy": [{"displayName": sort, "desc": sort in units}],
    }
    panel = _panel("table", title, text, targets, defaults, options, overrides, width=width, height=height)
    return {**panel, "transformations": [{"id": "merge", "options": {}}, {"id": "organize", "options": organized}]}


def _panel(
    kind: str,
    title: str,
    text: str,
    targets: list[dict[str, Any]],
    defaults: dict[str, Any],
    options: dict[str, Any],
    overrides: Sequence[dict[str, Any]] = (),
    *,
    width: int,
    height: int,
    alert: str = "",
) -> Panel:
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": SOURCE,
        "gridPos": {"h": height, "w": width},
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "options": options,
        "links": [link(alert, f"{RUNBOOKS}#{alert.lower()}")] if alert else [],
        "targets": targets,
    }


def _target(
    expr: str,
    *,
    legend: str = "",
    ref: str = "A",
    instant: bool = False,
    form: str = "time_series",
    exemplar: bool = False,
) -> dict[str, Any]:
    for short, matchers in MATCHERS.items():
        expr = expr.replace(short, matchers)
    return {
        "datasource": SOURCE,
        "editorMode": "code",
        "expr": expr,
        "legendFormat": legend or "__auto",
        "refId": ref,
        "format": form,
        "instant": instant,
        "range": not instant,
        "exemplar": exemplar,
    }


def _steps(*steps: tuple[str, float | None]) -> dict[str, Any]:
    base, *others = steps
    kept = [base, *(step for step in others if step[1] is not None)]
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in kept]}


def _colors(legends: Sequence[str]) -> list[dict[str, Any]]:
    names = [n for n in ("high", "default", "low") if "{{priority}}" in legends]
    names += [n for n in ("queued", "running", "retry_wait") if "{{state}}" in legends]
    names += [legend for legend in legends if legend in COLORS]
    return [_override(n, {"color": {"mode": "fixed", "fixedColor": COLORS[n]}}) for n in names]


def _override(name: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    listed = [{"id": key, "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": listed}


_COLORED = {"custom.cellOptions": {"type": "color-text"}}
