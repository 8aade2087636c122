"""grafana/dashboard.json: what its generator writes, and what Grafana's dashboard-linter asks of a dashboard."""

import re
import subprocess
import sys
from itertools import combinations

import pytest

from . import promql
from .files import ALERTS, DASHBOARD, PANELS, ROOT, VARIABLES, interpolated, limit_of, load, panel_exprs

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Of Grafana's units, those that fit what is measured here.
UNITS = {"short", "s", "percentunit", "ops", "reqps", "bytes"}
# Looks back over a chosen time, which the reader must be told; everything else follows the zoom.
RATE_INTERVAL = interpolated("$__rate_interval")
ALERTING = [panel for panel in PANELS if panel["links"]]

every_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
every_target = pytest.mark.parametrize(("title", "expr"), panel_exprs())


def test_the_file_is_what_the_generator_writes():
    subprocess.run([sys.executable, "grafana/generate.py", "--check"], cwd=ROOT, check=True, timeout=60)


def test_it_can_be_provisioned_and_imported_by_hand():
    assert (DASHBOARD["uid"], DASHBOARD["title"]) == ("taskward-overview", "Taskward / Overview")
    assert DASHBOARD["id"] is None
    assert DASHBOARD["editable"] is False
    assert not {"__inputs", "__requires", "__elements"} & set(DASHBOARD)
    assert "${DS_" not in (ROOT / "grafana/dashboard.json").read_text(encoding="utf-8")


def test_the_rows_stand_in_the_order_in_which_an_operator_asks():
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        *("Overview", "Queues", "Latency", "Outcomes", "Retries and DLQ"),
        *("Workers and saturation", "API", "Redis", "Scraping"),
    ]


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for place in (panel["gridPos"] for panel in panels):
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        assert not (meet(one, other, "x", "w") and meet(one, other, "y", "h")), (one, other)


def meet(one: dict[str, int], other: dict[str, int], at: str, size: str) -> bool:
    return one[at] < other[at] + other[size] and other[at] < one[at] + one[size]


def test_the_data_source_is_a_variable():
    variable = VARIABLES["datasource"]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    assert set(variable["current"]) >= {"text", "value"}


@pytest.mark.parametrize("name", ["job", "instance", "priority", "type"])
def test_variables_allow_any_choice_and_follow_what_is_there(name):
    variable = VARIABLES[name]
    assert variable["type"] == "query"
    assert variable["datasource"] == SOURCE
    assert variable["multi"]
    assert variable["includeAll"]
    assert variable["allValue"] == ".+"
    assert variable["refresh"] == 2
    assert set(variable["current"]) >= {"text", "value"}
    metric, label = re.fullmatch(r"label_values\((\w+)\{.*}, (\w+)\)", variable["definition"]).groups()
    assert label == name
    assert label in promql.labels_of(metric)


@every_panel
def test_a_panel_says_what_it_shows_in_which_unit(panel):
    assert panel["type"] in ("timeseries", "stat", "table", "bargauge")
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["datasource"] == SOURCE
    defaults = panel["fieldConfig"]["defaults"]
    properties = [p for override in panel["fieldConfig"]["overrides"] for p in override["properties"]]
    units = [defaults[key] for key in ("unit",) if key in defaults] + [
        p["value"] for p in properties if p["id"] == "unit"
    ]
    assert units
    assert set(units) <= UNITS


@every_panel
def test_a_panel_has_targets_that_can_be_told_apart(panel):
    refs = [target["refId"] for target in panel["targets"]]
    assert refs
    assert len(set(refs)) == len(refs)
    for target in panel["targets"]:
        assert target["datasource"] == SOURCE
        assert target["instant"] != target["range"]
        grouped = set().union(
            *(labels for labels, _ in promql.groupings(interpolated(target["expr"]))), promql.OF_TARGETS
        )
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= grouped


@every_target
def test_a_query_follows_the_chosen_job_and_instance(title, expr):
    for selector in promql.selectors(expr):
        if not selector.name.startswith("ALERTS"):
            assert selector.matchers["job"] == "$job"
            assert selector.matchers["instance"] == "$instance"
        for label in ("priority", "type"):
            assert selector.matchers.get(label, f"${label}") == f"${label}"


@every_panel
def test_a_window_follows_the_zoom_or_the_panel_names_it(panel):
    for target in panel["targets"]:
        for _, seconds in promql.windows(interpolated(target["expr"])):
            named = f"({seconds / 60:g}m)" in panel["title"] + panel["description"]
            assert named or f"{seconds:g}s" == RATE_INTERVAL


@pytest.mark.parametrize("panel", ALERTING, ids=lambda panel: panel["title"])
def test_what_turns_red_is_the_limit_of_the_alert_it_leads_to(panel):
    (link,) = panel["links"]
    assert link["title"] in ALERTS
    assert link["url"].endswith(f"/docs/runbooks.md#{link['title'].lower()}")
    red = next(s["value"] for s in panel["fieldConfig"]["defaults"]["thresholds"]["steps"] if s["color"] == "red")
    limit = limit_of(link["title"])
    assert red == (limit or 1), "above 0 is 1 and more of what is counted"


def test_every_number_of_the_overview_that_has_an_alert_leads_to_it():
    led_to = {panel["links"][0]["title"] for panel in ALERTING if panel["type"] == "stat"}
    assert led_to >= {"TaskwardQueueDepthHigh", "TaskwardFailureRateHigh", "TaskwardTasksSlow", "TaskwardRetrySurge"}


def test_the_documented_stats_ask_what_the_alerts_ask():
    stats = {panel["links"][0]["title"]: panel for panel in ALERTING if panel["type"] == "stat"}
    for name in ("TaskwardFailureRateHigh", "TaskwardTasksSlow", "TaskwardRetrySurge"):
        asked = {(s.name, *sorted(s.functions & {"rate", "increase"})) for s in promql.selectors(ALERTS[name]["expr"])}
        shown = {
            (s.name, *sorted(s.functions & {"rate", "increase"}))
            for s in promql.selectors(interpolated(stats[name]["targets"][0]["expr"]))
        }
        assert shown == asked


def test_provisioning_finds_the_dashboard_and_the_scrape_interval():
    (source,) = load("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert source["type"] == "prometheus"
    assert source["isDefault"]
    assert source["jsonData"]["timeInterval"] == load("prometheus.yml")["global"]["scrape_interval"]
    (provider,) = load("grafana/provisioning/dashboards/taskward.yml")["providers"]
    mounts = [volume.split(":") for volume in load("docker-compose.yml")["services"]["grafana"]["volumes"]]
    targets = {source: target for source, target, *_ in mounts}
    assert targets["./grafana/dashboard.json"].startswith(provider["options"]["path"] + "/")
    assert targets["./grafana/provisioning"] == "/etc/grafana/provisioning"
