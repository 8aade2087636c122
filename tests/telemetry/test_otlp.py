"""Metrics and traces arrive at a real collector; a dead one delays nothing for long."""

import importlib.util
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from taskward.errors import ConfigError
from taskward.events import SlotsChanged
from taskward.telemetry.metrics import resource
from taskward.telemetry.otlp import asks_for, flushing, pushing, tracing
from taskward.telemetry.tracing import Span

from .given import lease, metrics, sample, settled, started

_rotel = importlib.util.find_spec("rotel")
AGENT = Path(_rotel.origin).with_name("rotel-agent") if _rotel is not None and _rotel.origin else None
needs_rotel = pytest.mark.skipif(AGENT is None or not AGENT.exists(), reason="rotel is not installed")


@pytest.fixture
def otlp(monkeypatch):
    """Set the standard variables, as OpenTelemetry reads them."""

    def set_variables(port, **more):
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", **more}
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        return environ

    return set_variables


class Collector:
    """What a collector has printed of all it received."""

    def __init__(self, path):
        self._path = path

    async def printed(self, *texts):
        with trio.fail_after(20):
            while True:
                found = self._path.read_text(encoding="utf-8", errors="replace")
                if all(text in found for text in texts):
                    return found
                await trio.sleep(0.05)  # a file of another process: there is nothing to await


@pytest.fixture
async def collector(tmp_path, free_port):
    output = tmp_path / "collector.txt"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        grpc_port = probe.getsockname()[1]
    command = [str(AGENT), "start", "--otlp-http-endpoint", f"127.0.0.1:{free_port}"]
    command += ["--otlp-grpc-endpoint", f"127.0.0.1:{grpc_port}", "--exporter", "blackhole"]
    command += ["--debug-log", "metrics", "--debug-log", "traces", "--debug-log-verbosity", "detailed"]
    with output.open("wb") as out:
        process = await trio.lowlevel.open_process(command, stdout=out, stderr=out)
        try:
            await listening(free_port)
            yield Collector(output)
        finally:
            process.kill()
            await process.wait()


async def listening(port):
    with trio.fail_after(20):
        while True:
            try:
                await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
            except OSError:
                await trio.sleep(0.05)
            else:
                return


@pytest.mark.usefixtures("path")
@needs_rotel
async def test_metrics_and_their_exemplars_arrive(collector, free_port, otlp):
    environ = otlp(free_port, OTEL_METRIC_EXPORT_INTERVAL="100")
    span = Span(0x0AF7651916CD43DD8448EB211C80319C, 0x00F067AA0BA902B7)
    given = metrics(current_span=lambda: span, readers=pushing(environ))
    for event in (sample(), SlotsChanged(3, 10), started(), settled(seconds=0.3, span=span)):
        given.observe(event)
    async with flushing(given.shutdown):
        text = await collector.printed("tasks_succeeded_total", "queue_depth", "task_run_seconds", "taskward-worker")
    assert "0af7651916cd43dd8448eb211c80319c" in text
    assert "ExplicitBounds #10: 30" in text


@needs_rotel
async def test_what_was_counted_last_is_sent_at_the_end(collector, free_port, otlp):
    given = metrics(readers=pushing(otlp(free_port)))
    async with flushing(given.shutdown):
        given.observe(settled(held=lease(priority="low")))
    await collector.printed("tasks_succeeded_total", "low")


@needs_rotel
async def test_traces_arrive_at_the_end(collector, free_port, otlp):
    spans = tracing(otlp(free_port), resource=resource("worker", "host:1", "1.2.3"))
    async with flushing(spans.shutdown):
        held = lease(headers={"traceparent": spans.submitting("high")})
        with spans.attempt(held):
            pass
        spans.observe(settled(held=held))
    await collector.printed("send high", "process echo", "messaging.destination.name", "host:1")


@pytest.mark.parametrize("behaviour", ["refuses", "is silent"])
async def test_a_dead_collector_delays_the_end_by_less_than_a_second_and_a_half(free_port, otlp, behaviour):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        environ = otlp(silent.getsockname()[1] if behaviour == "is silent" else free_port)
        spans, given = tracing(environ, resource={}), metrics(readers=pushing(environ))
        async with flushing(given.shutdown, spans.shutdown):
            with spans.attempt(lease()):
                pass
            spans.observe(settled())
            began = trio.current_time()
        assert trio.current_time() - began < 1.5


async def test_what_is_left_is_sent_even_where_the_caller_is_cancelled_or_no_thread_is_free():
    ended = []
    limiter = trio.to_thread.current_default_thread_limiter()
    for _ in range(int(limiter.total_tokens)):
        limiter.acquire_on_behalf_of_nowait(object())
    with trio.CancelScope() as scope:
        async with flushing(lambda: ended.append("metrics"), lambda: ended.append("traces")):
            scope.cancel()
    assert sorted(ended) == ["metrics", "traces"]


def test_a_dead_collector_does_not_hold_the_interpreter(free_port, otlp):
    otlp(free_port)
    code = """
import os, trio
from taskward.cli.process import open_telemetry
from taskward.config import Config
async def main():
    async with open_telemetry(Config(), role="worker", instance_id="a") as telemetry:
        telemetry.tracing.submitting("low")
    print("left", flush=True)
trio.run(main)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline() == b"left\n"
    began = time.monotonic()
    assert process.wait(timeout=10) == 0
    assert time.monotonic() - began < 5  # the SDK by itself would take more than six; measured here: about one


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, False),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_METRICS_EXPORTER": "prometheus,otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
    ],
)
def test_the_standard_variables_ask_for_a_push(environ, wanted):
    assert asks_for(environ, "metrics") == wanted


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ("OTEL_METRICS_EXPORTER", "console"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
    ],
)
def test_what_cannot_be_done_stops_the_start(otlp, variable, value):
    with pytest.raises(ConfigError, match=variable):
        pushing(otlp(4318, **{variable: value}))
