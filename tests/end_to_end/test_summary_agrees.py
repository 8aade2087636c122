"""GET /metrics/summary and Prometheus say the same of steady traffic; ten processes of each confuse neither."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.prometheus import MISSING, installed, prometheus
from tests.end_to_end.system import Cluster, dev

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not installed(), reason=MISSING)]
PER_SECOND = 50
SECONDS = 75


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


def test_depths_stay_right_with_several_of_each(tmp_path: Path, cluster: Callable[..., Cluster]) -> None:
    system = cluster(METRICS_SAMPLE_MS="500", WORKER_CONCURRENCY="1")
    apis = [system.api() for _ in range(3)]
    _, api = apis[0]
    for _ in range(3):
        system.worker()
    api.call("POST", "/queues/low/pause")
    api.submit_many([{"type": "echo", "priority": "low"} for _ in range(40)])
    port = int(api.url.rpartition(":")[2])
    with prometheus(tmp_path, api=port, api_metrics=1, worker=1) as scraped:  # all found by the API's list alone
        until = time.monotonic() + 60
        while len(scraped.query("queue_depth{priority='low'} == 40")) < 6:
            assert time.monotonic() < until, scraped.targets()
            time.sleep(0.5)
        assert scraped.value("sum(max by (priority) (queue_depth))") == 40
        assert scraped.value("sum(queue_depth)") == 6 * 40  # what a query that knew nothing of it would say
        assert scraped.value("max(workers_live)") == 3
        assert scraped.value("sum(worker_slots)") == 3
