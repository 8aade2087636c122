"""alerts.yml: the documented limits, and rules that fire and stay silent."""

import json
import re
import subprocess
from urllib.parse import parse_qs, urlsplit

import pytest

from .files import ALERTS, ROOT, VARIABLES, limit_of, load, needs_promtool

# What the project's first document promises: limit, and how long (the window where the rule looks back over one).
DOCUMENTED = {
    "TaskwardQueueDepthHigh": (1000, "5m", None),
    "TaskwardFailureRateHigh": (0.10, None, "[5m]"),
    "TaskwardTasksSlow": (0.5, "5m", "[5m]"),
    "TaskwardRetrySurge": (500, None, "[5m]"),
}
CASES = [
    case
    for scenario in load("tests/operations/alerts_test.yml")["tests"]
    for case in scenario.get("alert_rule_test", [])
]

every_alert = pytest.mark.parametrize("name", ALERTS)


@pytest.mark.parametrize(("name", "promise"), DOCUMENTED.items())
def test_the_documented_limits_and_windows_are_exact(name, promise):
    limit, lasting, window = promise
    assert limit_of(name) == limit
    assert ALERTS[name].get("for") == lasting
    assert window is None or set(re.findall(r"\[.*?]", ALERTS[name]["expr"])) == {window}
    assert re.search(r">\s*[0-9.]+\s*$", ALERTS[name]["expr"]), "above the limit, not at it"


@every_alert
def test_an_alert_says_what_it_is_about_and_where_to_go_on(name):
    labels, annotations = ALERTS[name]["labels"], ALERTS[name]["annotations"]
    assert labels["severity"] in ("critical", "warning")
    assert labels["service"] == "taskward"
    assert annotations["summary"]
    assert "$value" in annotations["description"]
    assert annotations["runbook_url"].endswith(f"/docs/runbooks.md#{name.lower()}")
    dashboard = urlsplit(annotations["dashboard_url"])
    assert dashboard.path == "/d/taskward-overview"
    assert {key.removeprefix("var-") for key in parse_qs(dashboard.query)} <= set(VARIABLES)


@every_alert
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(name):
    outcomes = {bool(case["exp_alerts"]) for case in CASES if case["alertname"] == name}
    assert outcomes == {True, False}


@needs_promtool
def test_promtool_finds_nothing_to_say_about_the_rules():
    promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml")


@needs_promtool
def test_the_alerts_fire_and_stay_silent_as_the_scenarios_say():
    promtool("test", "rules", "tests/operations/alerts_test.yml")


# What ten APIs and ten workers each say of one queue that is at every limit, and of themselves; samples are 15 s apart.
OF_THE_QUEUE = {
    'queue_depth{priority="high", %s}': "1000x100",
    'queue_oldest_task_age_seconds{priority="high", %s}': "300x100",
    'dlq_depth{priority="high", %s}': "7x100",
    "processing_inflight{%s}": "90x100",
    'invariant_violations{kind="two_places", %s}': "0x100",
    "metrics_sample_timestamp_seconds{%s}": "0+15x100",
    "up{%s}": "1x100",
}
OF_A_WORKER = {
    "worker_slots{%s}": "10x100",
    "worker_slots_busy{%s}": "9x100",
    'tasks_dequeued_total{priority="high", %s}': "0+1x100",
    'tasks_retried_total{type="echo", priority="high", %s}': "0+2.5x100",  # 50 in 5 minutes, 500 by all
}


@needs_promtool
@pytest.mark.parametrize(
    ("changed", "alerts"),
    [
        ({}, []),
        ({'queue_depth{priority="high", %s}': "1001x100"}, ["TaskwardQueueDepthHigh"]),
        ({'dlq_depth{priority="high", %s}': "7x60 8x40"}, ["TaskwardDeadLettersGrow"]),
    ],
)
def test_ten_processes_that_export_one_queue_are_one_queue(tmp_path, changed, alerts):
    jobs = {"taskward-api": OF_THE_QUEUE, "taskward-worker": OF_THE_QUEUE | OF_A_WORKER}
    series = [
        {"series": name % f'job="{job}", instance="{job}-{n}:2112"', "values": values}
        for job, exported in jobs.items()
        for n in range(10)
        for name, values in {**exported, **changed}.items()
    ]
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in alerts]
    counted = {"expr": "count by (alertname) (ALERTS)", "eval_time": "20m", "exp_samples": samples}
    test = {"interval": "15s", "input_series": series, "promql_expr_test": [counted]}
    rules = tmp_path / "rules.yml"
    rules.write_text(
        json.dumps({"rule_files": [str(ROOT / "alerts.yml")], "evaluation_interval": "15s", "tests": [test]})
    )
    promtool("test", "rules", str(rules))


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
