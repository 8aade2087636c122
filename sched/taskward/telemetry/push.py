"""Metrics pushed to a collector by OTLP, beside the scrape: the same numbers, cumulative."""

import time
from collections.abc import Mapping
from typing import NoReturn

import trio
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from taskward.errors import ConfigError
from taskward.telemetry import histograms
from taskward.telemetry.instruments import Instrument
from taskward.telemetry.metrics import Metrics
from taskward.telemetry.otlp import CLOSE_SECONDS

_CUMULATIVE = AggregationTemporality.CUMULATIVE


async def push_metrics(metrics: Metrics, *, seconds: float) -> NoReturn:
    """Send every so many seconds, and once more when cancelled, for CLOSE_SECONDS at most.

    Endpoint, headers and timeout are the standard variables, which OpenTelemetry reads itself.
    """
    exporter = OTLPMetricExporter()
    try:
        while True:
            await trio.sleep(seconds)
            await _send(exporter, metrics)
    finally:
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            await _send(exporter, metrics)
        exporter.shutdown()


def interval_seconds(environ: Mapping[str, str]) -> float:
    """OTEL_METRIC_EXPORT_INTERVAL (60000 ms) in seconds. Raises ConfigError, also for deltas: there are none."""
    preference = environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative")
    if preference.lower() != "cumulative":
        raise ConfigError("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: metrics are pushed as 'cumulative' only")
    text = environ.get("OTEL_METRIC_EXPORT_INTERVAL", "60000")
    if not text.isdecimal() or int(text) == 0:
        raise ConfigError(f"OTEL_METRIC_EXPORT_INTERVAL={text!r}: milliseconds, more than 0")
    return int(text) / 1000


def metrics_data(metrics: Metrics, *, now_ns: int) -> MetricsData:
    """Every instrument as it stands."""
    found = [_metric(metrics, i, now_ns) for i in metrics.instruments]
    scope = ScopeMetrics(InstrumentationScope("taskward"), [m for m in found if m.data.data_points], "")
    return MetricsData([ResourceMetrics(Resource(dict(metrics.resource)), [scope], "")])


async def _send(exporter: OTLPMetricExporter, metrics: Metrics) -> None:
    data = metrics_data(metrics, now_ns=time.time_ns())
    await trio.to_thread.run_sync(exporter.export, data, abandon_on_cancel=True)


def _metric(metrics: Metrics, i: Instrument, now_ns: int) -> Metric:
    began = metrics.began_ns
    if i.kind == "histogram":
        cells = list(metrics.histogram(i).items())
        points = [_histogram_point(_attributes(i, labels), cell, began, now_ns) for labels, cell in cells]
        return Metric(i.name, i.help, i.unit, Histogram(points, _CUMULATIVE))
    values = list(metrics.values(i).items())
    numbers = [NumberDataPoint(_attributes(i, labels), began, now_ns, value) for labels, value in values]
    data = Sum(numbers, _CUMULATIVE, is_monotonic=True) if i.kind == "counter" else Gauge(numbers)
    return Metric(i.name, i.help, i.unit, data)


def _histogram_point(attributes: dict[str, str], cell: histograms.Cell, began: int, now_ns: int) -> HistogramDataPoint:
    counts = tuple(cell.counts)
    return HistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=began,
        time_unix_nano=now_ns,
        count=sum(counts),
        sum=cell.total,
        bucket_counts=counts,
        explicit_bounds=cell.bounds,
        min=None,  # type: ignore[arg-type]  # optional on the wire, and not kept
        max=None,  # type: ignore[arg-type]
        exemplars=[Exemplar({}, v, t, span.span_id, span.trace_id) for v, t, span in list(cell.exemplars.values())],
    )


def _attributes(i: Instrument, labels: histograms.Labels) -> dict[str, str]:
    return dict(zip(i.labels, labels, strict=True))
