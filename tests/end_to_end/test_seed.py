"""The seed, end to end: the supervisor of `make dev`, 2,000 tasks over HTTP, and a real Prometheus that sees them."""

import re
import time
from collections.abc import Iterator
from collections.abc import Mapping as AbcMapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from taskward.telemetry.instruments import DOCUMENTED, Role, for_role
from tests.end_to_end.prometheus import MISSING, Prometheus, installed, panel_exprs, prometheus
from tests.end_to_end.system import Api, Process, dev

TASKS = 2000
SETTINGS = {"METRICS_SAMPLE_MS": "500", "RETRY_BASE_MS": "50", "RETRY_MAX_MS": "200", "MAX_ATTEMPTS": "3"}
PRIORITIES = ("high", "default", "low")


def mixed(n: int) -> dict[str, Any]:
    """The n-th task; what becomes of it is in its type."""
    kinds: tuple[AbcMapping[str, Any], ...] = (
        {"type": "echo", "payload": {"n": n}},
        {"type": "sleep", "payload": {"seconds": 0.02}},
        {"type": "flaky", "payload": {"fail_times": 1}},
        {"type": "fail", "payload": {"message": "on purpose"}, "max_attempts": 2},
        {"type": "echo", "payload": n, "delay_seconds": 0.5},
    )
    weights = (0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4)
    return {**kinds[weights[n % len(weights)]], "priority": PRIORITIES[n % 3]}


class Seen(NamedTuple):
    """A system after its 2,000 tasks."""

    process: Process
    api: Api
    ports: dict[str, int]
    tasks: dict[str, Any]
    folder: Path


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("seed")
    with dev(folder, **SETTINGS) as (process, api, ports):
        ids: list[str] = []
        for first in range(0, TASKS, 500):
            ids += api.submit_many([mixed(n) for n in range(first, first + 500)])
        yield Seen(process, api, ports, api.until_done(ids), folder)


@pytest.fixture(scope="module")
def scraped(seen: Seen) -> Iterator[Prometheus]:
    if not installed():
        pytest.skip(MISSING)
    with prometheus(seen.folder, **seen.ports) as p:
        # Rates need samples before and after some traffic.
        until = time.monotonic() + 60
        while not p.query("count(tasks_enqueued_total) and count(tasks_dequeued_total) and count(queue_depth) >= 6"):
            assert time.monotonic() < until, p.targets()
            time.sleep(0.2)
        yield p


def test_all_tasks_reach_the_right_end(seen: Seen) -> None:
    assert len(seen.tasks) == TASKS
    ends = {(task["type"], task["state"]) for task in seen.tasks.values()}
    assert ends == {("echo", "succeeded"), ("sleep", "succeeded"), ("flaky", "succeeded"), ("fail", "dead")}
    for task in seen.tasks.values():
        if task["type"] == "echo":
            assert task["result"] == task["payload"]
        if task["type"] == "flaky":
            assert task["attempt"] == 2
        if task["type"] == "fail":
            assert [a["outcome"] for a in task["attempts"]] == ["failed", "failed"]
            assert task["last_error"]["message"] == "on purpose"


def test_every_documented_series_is_there_with_exactly_its_labels(seen: Seen, scraped: Prometheus) -> None:
    for role, job in (("api", "taskward-api"), ("worker", "taskward-worker")):
        for instrument in DOCUMENTED:
            if role not in instrument.roles:
                continue
            for series in instrument.series:
                found = scraped.query(f'{series}{{job="{job}"}}')
                assert found, (role, series)
                extra = {"le"} if series.endswith("_bucket") else set()
                labels = {"__name__", "job", "instance", *instrument.labels, *extra}
                assert all(set(metric) == labels for metric, _ in found), (series, found[0])


def test_depths_show_zeros_and_the_dead(seen: Seen, scraped: Prometheus) -> None:
    dead = sum(task["state"] == "dead" for task in seen.tasks.values())
    until = time.monotonic() + 20
    while scraped.query("sum(max by (priority) (dlq_depth))")[0][1] != dead:
        assert time.monotonic() < until
        time.sleep(0.2)
    depths = {m["priority"]: v for m, v in scraped.query("max by (priority) (queue_depth)")}
    assert depths == dict.fromkeys(PRIORITIES, 0)
    assert scraped.value("max(processing_inflight)") == 0


def test_the_books_balance(seen: Seen, scraped: Prometheus) -> None:
    total = lambda name: scraped.value(f"sum({name})")  # noqa: E731
    attempts = sum(task["attempt"] for task in seen.tasks.values())
    assert total("tasks_enqueued_total") == TASKS
    assert total("tasks_dequeued_total") == attempts
    returned = total("tasks_retried_total") + total("tasks_reaped_total") + total("tasks_released_total")
    assert total("tasks_dequeued_total") == total("tasks_enqueued_total") + returned
    ended = total("tasks_succeeded_total") + total("tasks_failed_total") + total("tasks_cancelled_total")
    assert ended == total("task_run_seconds_count") == attempts
    by_type = {m["type"]: v for m, v in scraped.query("sum by (type) (tasks_succeeded_total) > 0")}
    states = [(t["type"], t["state"]) for t in seen.tasks.values()]
    assert by_type == {name: states.count((name, "succeeded")) for name in ("echo", "sleep", "flaky")}


def test_nothing_of_the_table_is_missing(seen: Seen, scraped: Prometheus) -> None:
    # A series whose labels are not known in advance is there once there is something to say.
    roles: tuple[Role, ...] = ("api", "worker")
    for role in roles:
        for instrument in for_role(role):
            for series in instrument.series:
                assert instrument.labels or scraped.query(f'{series}{{job="taskward-{role}"}}'), (role, series)


def test_both_targets_are_up_and_scraped_once(scraped: Prometheus) -> None:
    up = scraped.query("up")
    assert sorted(metric["job"] for metric, _ in up) == ["taskward-api", "taskward-worker"]
    assert {value for _, value in up} == {1.0}


def test_every_expression_of_alerts_and_dashboard_gives_data(seen: Seen, scraped: Prometheus) -> None:
    ids = seen.api.submit_many([mixed(n) for n in range(300)])  # traffic while it looks
    seen.api.until_done(ids)
    exprs = panel_exprs()
    assert len(exprs) > 20
    empty = exprs
    until = time.monotonic() + 30
    while empty and time.monotonic() < until:
        empty = [(title, expr) for title, expr in empty if not scraped.query(expr)]
        if empty:
            time.sleep(0.5)
    assert not empty


def test_prometheus_loads_the_rules_and_none_fires(scraped: Prometheus) -> None:
    rules = scraped.rules()
    assert rules
    until = time.monotonic() + 30
    while any(rule["health"] == "unknown" for rule in rules):
        assert time.monotonic() < until
        time.sleep(0.2)
        rules = scraped.rules()
    assert {rule["health"] for rule in rules} == {"ok"}, [r for r in rules if r["health"] != "ok"]


def test_the_summary_agrees(seen: Seen) -> None:
    summary = seen.api.get("/metrics/summary")
    assert summary["stale"] is False
    assert set(summary["priorities"]) == set(PRIORITIES)
    assert summary["workers"]["live"] == 1
    assert summary["types"]["sleep"]["p95_run_seconds"] > 0.01


def test_what_dev_prints_is_what_is_there(seen: Seen) -> None:
    said = seen.process.output()
    (curl,) = re.findall(r"^ *curl .*$", said, re.MULTILINE)
    assert f"127.0.0.1:{seen.ports['api']}/tasks" in curl
    for port in seen.ports.values():
        assert f":{port}" in said


def test_ctrl_c_stops_everything_cleanly(seen: Seen) -> None:
    assert seen.process.stop() == 0
    assert "Traceback" not in seen.process.output()
