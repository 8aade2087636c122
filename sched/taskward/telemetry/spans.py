"""Tracing that is on: OpenTelemetry's SDK behind the interface of tracing.py."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import assert_never

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from taskward.events import Event, LeaseWasLost, TaskSettled
from taskward.policy.retry import Failed, Outcome, RetryAsked, Stopped, Succeeded
from taskward.task import CancelCause, Lease, all_headers
from taskward.telemetry.tracing import Answered, Span, Tracing

# Version ff is forbidden; later versions may append fields.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")


@dataclass(slots=True)
class _Open:
    """An attempt's span: it ends when the scope has been left and the outcome is told, whichever comes last."""

    span: trace.Span
    told: bool = False
    left_ns: int | None = None

    def end_if_complete(self) -> None:
        if self.told and self.left_ns is not None:
            self.span.end(self.left_ns)


class Spans(Tracing):
    """Traces through one provider, which `shutdown` ends."""

    enabled = True

    def __init__(self, provider: TracerProvider, *, label: Callable[[str], str] = str) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("taskward")
        self._label = label
        self._open: dict[int, _Open] = {}

    def submitting(self, priority: str) -> str | None:
        """See Tracing."""
        attributes = _messaging("send", priority)
        span = self._tracer.start_span(f"send {priority}", kind=SpanKind.PRODUCER, attributes=attributes)
        span.end()
        return traceparent(span.get_span_context())

    @contextmanager
    def attempt(self, lease: Lease) -> Iterator[Span | None]:
        """See Tracing."""
        attempt = _Open(self._start(lease))
        if attempt.span.is_recording():
            self._open[lease.token] = attempt
        try:
            # A message may quote the payload, so no exception is recorded.
            with trace.use_span(attempt.span, record_exception=False, set_status_on_exception=False):
                yield _sampled(attempt.span.get_span_context())
        finally:
            attempt.left_ns = time.time_ns()
            attempt.end_if_complete()

    @contextmanager
    def request(self, method: str, route: str, headers: Mapping[str, str]) -> Iterator[Answered]:
        """See Tracing."""
        with self._tracer.start_as_current_span(
            f"{method} {route}",
            context=_parent(remote_context(headers)),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": route},
            record_exception=False,
        ) as span:
            yield partial(_end_request, span)

    def observe(self, event: Event) -> None:
        """See Tracing."""
        if isinstance(event, TaskSettled | LeaseWasLost) and (attempt := self._open.pop(event.lease.token, None)):
            if isinstance(event, TaskSettled):
                _tell(attempt.span, event.outcome)
            else:
                attempt.span.set_attribute("task.outcome", CancelCause.LEASE_LOST)
            attempt.told = True
            attempt.end_if_complete()

    def current_span(self) -> Span | None:
        """See Tracing."""
        return _sampled(trace.get_current_span().get_span_context())

    def share(self) -> None:
        """See Tracing."""
        trace.set_tracer_provider(self._provider)

    def shutdown(self) -> None:
        """See Tracing."""
        self._provider.shutdown()

    def _start(self, lease: Lease) -> trace.Span:
        creation = remote_context(all_headers(lease.spec))
        type_ = self._label(lease.spec.type)
        return self._tracer.start_span(
            f"process {type_}",
            context=_parent(creation if _is_immediate(lease) else None),
            kind=SpanKind.CONSUMER,
            attributes=_messaging("process", lease.spec.priority) | _of_attempt(lease, type_),
            links=[Link(creation)] if creation is not None else [],
        )


def exporting_provider(resource: Mapping[str, str]) -> TracerProvider:
    """A provider that samples and sends as the process's environment says."""
    provider = TracerProvider(resource=Resource.create(dict(resource)), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def remote_context(headers: Mapping[str, str]) -> SpanContext | None:
    """The W3C trace context in headers; None where there is none, or none that can be read."""
    found = _TRACEPARENT.fullmatch(headers.get("traceparent", "").strip())
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    state = TraceState.from_header([headers.get("tracestate", "")])
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags), trace_state=state)
    return context if context.is_valid else None


def traceparent(context: SpanContext) -> str:
    """The same the other way, without its state: that stays within a process."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _is_immediate(lease: Lease) -> bool:
    return lease.attempt == 1 and lease.spec.run_at_ms is None and lease.spec.delay_ms is None


def _parent(remote: SpanContext | None) -> Context:
    """Not the ambient context: a new root, or a child of `remote`."""
    return Context() if remote is None else trace.set_span_in_context(NonRecordingSpan(remote), Context())


def _sampled(context: SpanContext) -> Span | None:
    return Span(context.trace_id, context.span_id) if context.trace_flags.sampled else None


def _messaging(operation: str, priority: str) -> dict[str, str | int]:
    return {
        "messaging.system": "taskward",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": priority,
    }


def _of_attempt(lease: Lease, type_: str) -> dict[str, str | int]:
    return {
        "messaging.message.id": lease.id,
        "task.type": type_,
        "task.attempt": lease.attempt,
        "task.enqueue_to_start_ms": (lease.started_us - lease.queued_us) // 1000,
    }


def _tell(span: trace.Span, outcome: Outcome) -> None:
    match outcome:
        case Succeeded():
            span.set_attribute("task.outcome", "succeeded")
        case Failed(error) | RetryAsked(_, error):
            span.set_attribute("task.outcome", "failed")
            _fail(span, error.type)
        case Stopped(cause):
            span.set_attribute("task.outcome", cause)
            if cause is CancelCause.TIMEOUT:
                _fail(span, "Timeout")
        case _:
            assert_never(outcome)


def _end_request(span: trace.Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        _fail(span, str(status))


def _fail(span: trace.Span, error_type: str) -> None:
    span.set_attribute("error.type", error_type)
    span.set_status(Status(StatusCode.ERROR))
