"""GET /metrics/summary and Prometheus say the same of steady traffic; ten processes of each confuse neither."""

import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.prometheus import MISSING, Prometheus, installed, panel_exprs, prometheus
from tests.end_to_end.system import Cluster, dev

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not installed(), reason=MISSING)]
PER_SECOND = 50
SECONDS = 75
# So many processes of each kind; twice as many times so many waiting tasks are more than the alert's limit.
EACH = 10
WAITING = 60
DEPTHS = {
    "Deepest queue": [WAITING],
    "Queue depth": [WAITING, 0, 0],
    "Scheduled": [8, 0, 0],
    "Running": [EACH],
    "Where the tasks are": [8, WAITING, EACH, 0, 0],
    "Workers": [EACH],
}


def test_throughput_and_p95_agree_within_5_percent(tmp_path: Path) -> None:
    with dev(tmp_path, METRICS_SAMPLE_MS="1000") as (_, api, ports), prometheus(tmp_path, **ports) as scraped:
        stop = threading.Event()

        def steady() -> None:
            n = 0
            due = time.monotonic()
            while not stop.is_set():
                lengths = [0.02 + 0.16 * ((n + k) % PER_SECOND) / PER_SECOND for k in range(PER_SECOND // 5)]
                api.submit_many([{"type": "sleep", "payload": {"seconds": s}} for s in lengths])
                n += PER_SECOND // 5
                due += 0.2
                stop.wait(max(0.0, due - time.monotonic()))

        traffic = threading.Thread(target=steady)
        traffic.start()
        try:
            stop.wait(SECONDS)  # longer than the window of both
            summary = api.get("/metrics/summary")
            rate = scraped.value("sum(rate(tasks_succeeded_total[1m]))")
            p95 = scraped.value("histogram_quantile(0.95, sum by (le) (rate(task_run_seconds_bucket[1m])))")
        finally:
            stop.set()
            traffic.join()
    assert summary["throughput_per_second"] == pytest.approx(rate, rel=0.05)
    assert summary["p95_run_seconds"] == pytest.approx(p95, rel=0.05)


def test_depths_stay_right_with_ten_of_each(tmp_path: Path, cluster: Callable[..., Cluster]) -> None:
    system = cluster(METRICS_SAMPLE_MS="500", WORKER_CONCURRENCY="1", LEASE_MS="30000")
    for _ in range(EACH):
        _, api = system.api()
        system.worker()
    api.call("POST", "/queues/low/pause")
    api.submit_many([{"type": "echo", "priority": "low"}] * WAITING)
    api.submit_many([{"type": "echo", "delay_seconds": 3600}] * 8)
    api.submit_many([{"type": "sleep", "payload": {"seconds": 300}, "priority": "high"}] * EACH)
    port = int(api.url.rpartition(":")[2])
    with prometheus(tmp_path, api=port, api_metrics=1, worker=1) as scraped:  # all found by the API's list alone
        for seen in (f"queue_depth{{priority='low'}} == {WAITING}", f"processing_inflight == {EACH}"):
            until(lambda seen=seen: len(scraped.query(seen)) == 2 * EACH, scraped)
        exprs = panel_exprs()
        shown = {title: [scraped.query(expr) for name, expr in exprs if name == title] for title in DEPTHS}
        assert {title: numbers(answers) for title, answers in shown.items()} == DEPTHS
        assert (
            scraped.value("sum(queue_depth)") == 2 * EACH * WAITING > 1000
        )  # what would fire, did it know nothing of it
        assert scraped.value("sum(processing_inflight)") == 2 * EACH * EACH
        assert scraped.value("sum(worker_slots)") == EACH
        seen_at = time.time()
        until(lambda: all(evaluated(rule) > seen_at for rule in scraped.rules()), scraped)
        rules = {rule["name"]: rule for rule in scraped.rules()}
        assert rules["TaskwardQueueDepthHigh"]["state"] == "inactive"
        # The addresses in prometheus.yml itself are nobody's here.
        assert scraped.query("ALERTS{alertstate='firing', alertname!='TaskwardTargetDown'}") == []


def until(seen: Callable[[], bool], scraped: Prometheus) -> None:
    end = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < end, scraped.targets()
        time.sleep(0.5)


def numbers(answers: list[list[tuple[dict[str, str], float]]]) -> list[float]:
    """The values of a panel: its queries in their order, the largest series first."""
    return [value for answer in answers for value in sorted((value for _, value in answer), reverse=True)]


def evaluated(rule: dict[str, Any]) -> float:
    """When Prometheus last looked at a rule, in Unix seconds."""
    return datetime.fromisoformat(rule["lastEvaluation"]).timestamp()
