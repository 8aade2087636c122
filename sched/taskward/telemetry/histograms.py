"""Histograms of OpenTelemetry's SDK, bound to their series once: then a value costs a bisect, and no search for them.

The SDK has no public way to bind. Where it is not inside as it was when this was written, everything goes by `record`,
which costs ten times as much and shows a series from its first value on instead of from the start.
"""

# ruff: noqa: SLF001 - the one place that knows the SDK from inside

from bisect import bisect_left
from collections.abc import Iterable
from functools import cache
from typing import Any, Protocol

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import Histogram as SdkHistogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext, TraceFlags

from taskward.telemetry.instruments import Instrument
from taskward.telemetry.tracing import Span

Labels = tuple[str, ...]


class Record(Protocol):
    """Counts a value of one series, `times` over."""

    def __call__(self, value: float, span: Span | None = None, /, *, times: int = 1) -> None:
        """`value` is not below 0; a span offers it as an exemplar. For one thread, as observers are."""


# Not an empty context, for which the SDK would take the ambient one.
_NO_SPAN = trace.set_span_in_context(INVALID_SPAN, Context())


class Histogram(dict[Labels, Record]):
    """One histogram of the table, by label values; a series is made when it is first asked for."""

    def __init__(self, instrument: Instrument, meter: metrics.Meter, known: Iterable[Labels] = ()) -> None:
        super().__init__()
        self._names = instrument.labels
        self._made = meter.create_histogram(instrument.name, unit=instrument.unit, description=instrument.help)
        for labels in known:
            self.__missing__(labels)

    def __missing__(self, labels: Labels) -> Record:
        attributes = dict(zip(self._names, labels, strict=True))
        aggregations = _aggregations(self._made, attributes) if can_bind() else ()
        record = self[labels] = _record(self._made, attributes, aggregations)
        return record


def _record(histogram: metrics.Histogram, attributes: dict[str, str], aggregations: tuple[Any, ...]) -> Record:
    def in_public(value: float, span: Span | None = None, /, *, times: int = 1) -> None:
        for _ in range(times):
            histogram.record(value, attributes, _NO_SPAN if span is None else _context(span))

    def bound(value: float, span: Span | None = None, /, *, times: int = 1) -> None:
        if span is not None:
            in_public(value, span, times=times)
            return
        for aggregation in aggregations:
            with aggregation._lock:
                if aggregation._value is None:
                    aggregation._value = aggregation._get_empty_bucket_counts()
                aggregation._sum += times * value
                aggregation._value[bisect_left(aggregation._boundaries, value)] += times

    # Where there are no buckets, it drops what it is told, or somebody has asked for another kind of histogram.
    buckets = [hasattr(aggregation, "_boundaries") for aggregation in aggregations]
    return bound if buckets and all(buckets) else in_public


@cache
def can_bind() -> bool:
    """Whether this SDK can be bound to: tried once, on a meter of its own, where both ways must come to one series."""
    reader, labels = InMemoryMetricReader(), {"label": "value"}
    provider = MeterProvider([reader], resource=Resource({}), shutdown_on_exit=False)
    histogram = provider.get_meter("trial").create_histogram("trial", explicit_bucket_boundaries_advisory=[1.0])
    try:
        histogram.record(2.0, labels)
        aggregations = _aggregations(histogram, labels)
        _record(histogram, labels, aggregations)(0.5, times=2)
        data: Any = reader.get_metrics_data()
        (found,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    except Exception:  # noqa: BLE001 - the inside of a library may change in any way, and there is another way
        return False
    return aggregations != () and (found.attributes, found.bucket_counts, found.sum) == (labels, (2, 1), 3.0)


def _aggregations(histogram: metrics.Histogram, attributes: dict[str, str]) -> tuple[Any, ...]:
    """What a value of this series is to be told: one aggregation for each reader of the provider.

    None where a reader sends deltas, for which it takes new aggregations every time, and none where OTEL_SDK_DISABLED.
    """
    if not isinstance(histogram, SdkHistogram):
        return ()
    from opentelemetry.sdk.metrics._internal._view_instrument_match import _hash_attributes

    consumer: Any = histogram._measurement_consumer
    readers = consumer._reader_storages.values()
    matches = [match for reader in readers for match in reader._get_or_init_view_instrument_match(histogram)]
    if any(match._reset_on_collect for match in matches):
        return ()
    return tuple(_aggregation(match, _hash_attributes(attributes), attributes) for match in matches)


def _aggregation(match: Any, key: object, attributes: dict[str, str]) -> Any:
    with match._lock:
        return match._get_or_create_aggregation(key, attributes)


def _context(span: Span) -> Context:
    context = SpanContext(span.trace_id, span.span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return trace.set_span_in_context(NonRecordingSpan(context), Context())
