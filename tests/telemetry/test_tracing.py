"""Spans are joined through the queue, tell how an attempt ended, and cost nothing when nobody asked for them."""

import subprocess
import sys
from contextlib import suppress

import pytest
import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from taskward.errors import ConfigError
from taskward.events import LeaseWasLost
from taskward.policy.retry import Bury, Cancel, RetryAsked, RetryIn, Stopped
from taskward.task import CancelCause
from taskward.telemetry.otlp import flushing, tracing
from taskward.telemetry.spans import Spans, remote_context
from taskward.telemetry.tracing import Tracing

from .given import ERROR, FAILED, SECRET, lease, settled

PARENT = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def spans(exporter):
    return make(exporter, ALWAYS_ON)


def make(exporter, sampler):
    provider = TracerProvider(sampler=ParentBased(sampler), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Spans(provider, label=lambda type_: type_ if type_ == "echo" else "unknown")


def test_a_submission_and_its_first_attempt_are_one_trace(spans, exporter):
    held = lease(headers={"traceparent": spans.submitting("high")})
    with spans.attempt(held):
        pass
    spans.observe(settled(held=held))
    send, process = exporter.get_finished_spans()
    assert (send.name, send.kind) == ("send high", SpanKind.PRODUCER)
    assert (process.name, process.kind) == ("process echo", SpanKind.CONSUMER)
    assert process.context.trace_id == send.context.trace_id
    assert process.parent.span_id == send.context.span_id
    assert [link.context.span_id for link in process.links] == [send.context.span_id]
    assert process.attributes == {
        "messaging.system": "taskward",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "default",
        "messaging.message.id": "task-7",
        "task.type": "echo",
        "task.attempt": 1,
        "task.enqueue_to_start_ms": 250,
        "task.outcome": "succeeded",
    }


@pytest.mark.parametrize("spec", [{"attempt": 2}, {"delay_ms": 1000}, {"run_at_ms": 1}])
def test_a_later_attempt_is_a_new_trace_that_links_to_the_submission(spans, exporter, spec):
    held = lease(headers={"traceparent": PARENT}, **spec)
    with spans.attempt(held):
        pass
    spans.observe(settled(held=held))
    (process,) = exporter.get_finished_spans()
    assert process.parent is None
    assert process.context.trace_id != 0x0AF7651916CD43DD8448EB211C80319C
    assert [link.context.span_id for link in process.links] == [0x00F067AA0BA902B7]


def test_a_request_is_the_parent_of_what_it_submits(spans, exporter):
    with spans.request("POST", "/tasks", {"traceparent": PARENT, "tracestate": "a=b"}) as answered:
        context = spans.submitting("low")
        answered(202)
    send, request = exporter.get_finished_spans()
    assert (request.name, request.kind) == ("POST /tasks", SpanKind.SERVER)
    assert format(request.context.trace_id, "032x") == PARENT[3:35]
    assert request.attributes["http.response.status_code"] == 202
    assert request.status.status_code is StatusCode.UNSET
    assert send.parent.span_id == request.context.span_id
    assert context == f"00-{send.context.trace_id:032x}-{send.context.span_id:016x}-01"


def test_a_request_that_failed_on_our_side_is_an_error(spans, exporter):
    with spans.request("POST", "/tasks", {}) as answered:
        answered(503)
    (request,) = exporter.get_finished_spans()
    assert request.status.status_code is StatusCode.ERROR
    assert request.attributes["error.type"] == "503"


@pytest.mark.parametrize(
    ("event", "outcome", "error"),
    [
        (settled(FAILED, RetryIn(1.0, "exception", ERROR)), "failed", "ValueError"),
        (settled(RetryAsked(1.0, ERROR), RetryIn(1.0, "asked", ERROR)), "failed", "ValueError"),
        (settled(Stopped(CancelCause.TIMEOUT), Bury("timeout", ERROR)), "timeout", "Timeout"),
        (settled(Stopped(CancelCause.USER), Cancel(CancelCause.USER)), "user", None),
        (LeaseWasLost(lease(), "echo", 1.0, "settle"), "lease_lost", None),
    ],
)
def test_a_span_says_how_its_attempt_ended_and_quotes_nothing(spans, exporter, event, outcome, error):
    with suppress(ValueError), spans.attempt(lease()):
        raise ValueError(SECRET)
    assert exporter.get_finished_spans() == ()
    spans.observe(event)
    (process,) = exporter.get_finished_spans()
    assert process.attributes["task.outcome"] == outcome
    assert process.attributes.get("error.type") == error
    assert process.status.status_code is (StatusCode.UNSET if error is None else StatusCode.ERROR)
    assert SECRET not in process.to_json()


def test_the_outcome_may_be_told_before_the_scope_is_left(spans, exporter):
    with spans.attempt(lease()):
        spans.observe(LeaseWasLost(lease(), "echo", 1.0, "extend"))
        assert exporter.get_finished_spans() == ()
    assert len(exporter.get_finished_spans()) == 1
    assert spans._open == {}


def test_a_span_lasts_as_long_as_its_scope(spans, exporter):
    with spans.attempt(lease()):
        pass
    left = spans._open[7].left_ns
    spans.observe(settled())
    assert exporter.get_finished_spans()[0].end_time == left


def test_a_type_nobody_handles_is_not_in_a_spans_name(spans, exporter):
    held = lease("made up by a client")
    with spans.attempt(held):
        pass
    spans.observe(settled(held=held))
    assert exporter.get_finished_spans()[0].name == "process unknown"


def test_the_handler_sees_its_span_and_so_do_metrics(spans):
    with spans.attempt(lease()) as span:
        context = trace.get_current_span().get_span_context()
        assert span == (context.trace_id, context.span_id) == spans.current_span()
    assert spans.current_span() is None


async def test_trio_tasks_of_a_handler_see_its_span(spans):
    seen = []

    async def child():
        seen.append(spans.current_span())

    with spans.attempt(lease()) as span:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
        seen.append(await trio.to_thread.run_sync(spans.current_span))
    assert seen == [span, span]


async def test_attempts_at_the_same_time_do_not_mix(spans, exporter):
    async def work(token):
        with spans.attempt(lease(token=token)) as span:
            await trio.lowlevel.checkpoint()
            assert spans.current_span() == span
        spans.observe(settled(held=lease(token=token)))

    async with trio.open_nursery() as nursery:
        for token in range(20):
            nursery.start_soon(work, token)
    finished = exporter.get_finished_spans()
    assert len({span.context.trace_id for span in finished}) == 20
    assert all(span.parent is None for span in finished)


def test_who_is_not_sampled_leaves_no_spans_and_passes_that_on(exporter):
    spans = make(exporter, ALWAYS_OFF)
    headers = {"traceparent": spans.submitting("low")}
    assert not remote_context(headers).trace_flags.sampled
    with spans.attempt(lease(headers=headers)) as span:
        assert span is None
        assert spans.current_span() is None
    spans.observe(settled())
    assert exporter.get_finished_spans() == ()
    assert spans._open == {}


def test_a_sampled_parent_decides(exporter):
    spans = make(exporter, ALWAYS_OFF)
    held = lease(headers={"traceparent": PARENT})
    with spans.attempt(held) as span:
        assert format(span.trace_id, "032x") == PARENT[3:35]
    spans.observe(settled(held=held))
    assert len(exporter.get_finished_spans()) == 1


@pytest.mark.parametrize(
    ("traceparent", "sampled"),
    [
        (PARENT, True),
        (PARENT[:-1] + "3", True),  # sampled and random
        (PARENT[:-1] + "2", False),
        (PARENT[:-2] + "00", False),
        (f" {PARENT} ", True),
        ("01" + PARENT[2:] + "-future", True),
    ],
)
def test_the_sampled_bit_is_one_bit(traceparent, sampled):
    assert remote_context({"traceparent": traceparent}).trace_flags.sampled == sampled


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "nonsense",
        "ff" + PARENT[2:],
        PARENT.upper(),
        PARENT[:-1],
        PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        PARENT.replace("00f067aa0ba902b7", "0" * 16),
        PARENT.replace("0af7", "0x_7"),
        "x" * 100_000,
    ],
)
def test_a_context_that_cannot_be_read_is_none(traceparent):
    assert remote_context({"traceparent": traceparent}) is None


async def test_tracing_that_is_off_passes_everything_through():
    off = tracing({}, resource={})
    assert type(off) is Tracing
    assert not off.enabled
    assert off.submitting("low") is None
    with off.attempt(lease()) as span, off.request("GET", "/", {}) as answered:
        answered(200)
        assert span is None
        assert off.current_span() is None
    off.observe(settled())
    off.shutdown()


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("environ", "on"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:1"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", **ENDPOINT}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "True"}, False),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
    ],
)
async def test_the_standard_variables_turn_it_on(environ, on):
    made = tracing(environ, resource={"service.name": "taskward-test"})
    assert made.enabled == on
    async with flushing(made.shutdown):
        pass


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_EXPORTER": "jaeger"},
        {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {**ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
    ],
)
def test_what_is_not_spoken_stops_the_start(environ):
    with pytest.raises(ConfigError, match="OTEL_"):
        tracing(environ, resource={})


def test_off_means_that_neither_spans_nor_exporters_are_even_imported():
    code = (
        "import sys, taskward.telemetry.metrics, taskward.telemetry.scrape, taskward.telemetry.logs;"
        "from taskward.telemetry.otlp import pushing, tracing; pushing({}); tracing({}, resource={});"
        "unwanted = ('opentelemetry.sdk.trace', 'opentelemetry.exporter.otlp', 'requests', 'google.protobuf');"
        "sys.exit(any(name.startswith(unwanted) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
