"""A trace goes through the queue: from the client's request over the submission to the attempt, at a real collector."""

import importlib.util
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.end_to_end.system import Cluster, Process, environment, free_ports

TRACE = "0af7651916cd43dd8448eb211c80319c"
_rotel = importlib.util.find_spec("rotel")
AGENT = Path(_rotel.origin).with_name("rotel-agent") if _rotel is not None and _rotel.origin else None
pytestmark = pytest.mark.skipif(AGENT is None or not AGENT.exists(), reason="rotel (a collector) is not installed")


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[tuple[str, Process]]:
    """Its endpoint, and the process that prints what it receives."""
    http, grpc = free_ports(2)
    command = [str(AGENT), "start", "--otlp-http-endpoint", f"127.0.0.1:{http}"]
    command += ["--otlp-grpc-endpoint", f"127.0.0.1:{grpc}", "--exporter", "blackhole"]
    command += ["--debug-log", "metrics", "--debug-log", "traces", "--debug-log-verbosity", "detailed"]
    process = Process(command, log=tmp_path / "collector.log", env=environment())
    try:
        yield f"http://127.0.0.1:{http}", process
    finally:
        process.kill()


def test_one_trace_from_the_request_to_the_attempt(
    cluster: Callable[..., Cluster], collector: tuple[str, Process]
) -> None:
    endpoint, received = collector
    system = cluster(
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_TRACES_SAMPLER="always_on",
        OTEL_BSP_SCHEDULE_DELAY="100",
        OTEL_METRIC_EXPORT_INTERVAL="200",
        LOG_FORMAT="json",
        LOG_LEVEL="debug",
    )
    api_process, api = system.api()
    worker, scrape = system.worker()
    request = Request(
        f"{api.url}/tasks",
        data=b'{"type": "echo", "id": "traced"}',
        headers={"Content-Type": "application/json", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"},
    )
    with urlopen(request, timeout=10) as response:
        assert response.status == 202
    task = api.until_done(["traced"])["traced"]
    assert TRACE in task["headers"]["traceparent"]

    with urlopen(
        Request(f"{scrape.url}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}), timeout=10
    ) as response:
        exemplars = re.findall(rf"^(\w+)_bucket.*# {{.*trace_id=\"{TRACE}\"", response.read().decode(), re.MULTILINE)
    assert set(exemplars) == {"task_run_seconds", "enqueue_to_start_seconds"}

    assert worker.stop() == 0
    assert api_process.stop() == 0
    assert f'"trace_id": "{TRACE}"' in worker.output()  # the log leads to the trace as well
    until_told(received, "POST /tasks", "send default", "process echo", "task_run_seconds")
    assert received.output().count(TRACE) >= 3


def test_what_a_handler_measures_goes_where_taskwards_own_goes(
    cluster: Callable[..., Cluster], collector: tuple[str, Process]
) -> None:
    endpoint, received = collector
    system = cluster(
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_TRACES_SAMPLER="always_on", OTEL_BSP_SCHEDULE_DELAY="100"
    )
    _, api = system.api()
    worker, scrape = system.worker("tests.end_to_end.handlers:app")
    task = api.until_done(api.submit_many([{"type": "pack", "payload": {"size": "L"}}]))
    [packed] = task.values()
    assert packed["result"] in packed["headers"]["traceparent"]  # the submission's trace, through the attempt's span
    with urlopen(f"{scrape.url}/metrics", timeout=10) as response:
        assert 'shop_parcels_total{size="L"} 1.0' in response.read().decode()
    assert worker.stop() == 0
    until_told(received, "fold the box")


def until_told(collector: Process, *names: str) -> None:
    """Until it has printed all of them."""
    until = time.monotonic() + 20
    while not all(name in collector.output() for name in names):
        assert time.monotonic() < until, collector.output()[-3000:]
        time.sleep(0.05)


def test_a_dead_collector_delays_neither_tasks_nor_the_end_for_long(cluster: Callable[..., Cluster]) -> None:
    (nobody,) = free_ports(1)
    system = cluster(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{nobody}", OTEL_TRACES_SAMPLER="always_on")
    api_process, api = system.api()
    worker, _ = system.worker()
    ids = api.submit_many([{"type": "echo", "payload": n} for n in range(20)])
    assert {task["state"] for task in api.until_done(ids).values()} == {"succeeded"}
    for process in (worker, api_process):
        try:
            assert process.stop(seconds=6) == 0  # by itself the SDK would try for longer
        except subprocess.TimeoutExpired:
            pytest.fail(process.output())
