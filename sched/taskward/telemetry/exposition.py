"""Metrics as Prometheus reads them: exact names, and exemplars where the format has them (OpenMetrics)."""

import gzip
from collections.abc import Iterable
from typing import Any

import trio
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Timestamp

from taskward.telemetry import histograms
from taskward.telemetry.instruments import Instrument
from taskward.telemetry.metrics import Metrics

# Some 3 ms. Fewer would hold the loop less, and make the scrape wait for more of its turns.
SAMPLES_A_TURN = 400

_END = b"# EOF\n"
_UNITS = {"s": "seconds", "By": "bytes"}


class Exposition:
    """Renders the metrics of a process, with prometheus_client's own about the process, Python and its collector."""

    def __init__(self, metrics: Metrics) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Collector(metrics))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    async def render(self, *, accept: str, accept_encoding: str) -> tuple[bytes, dict[str, str]]:
        """The body and its headers. The numbers are of one moment; a long rendering lets the loop turn in between."""
        encode, content_type = choose_encoder(accept)
        headers = {"Content-Type": content_type}
        parts, samples = [], 0
        for family in list(self.registry.collect()):
            parts.append(encode(_One(family)).removesuffix(_END))
            samples += len(family.samples)
            if samples >= SAMPLES_A_TURN:
                samples = 0
                await trio.lowlevel.checkpoint()
        if "openmetrics" in content_type:
            parts.append(_END)
        body = b"".join(parts)
        if gzip_accepted(accept_encoding):
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, compresslevel=1)
        return body, headers


class _Collector(Collector):
    """Every instrument as a family. It keeps nothing between two scrapes, so they cannot disturb one another."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        labels = {key.replace(".", "_"): value for key, value in self._metrics.resource.items()}
        families: list[Metric] = [InfoMetricFamily("target", "The process.", labels)]
        families += [_family(self._metrics, instrument) for instrument in self._metrics.instruments]
        return families


class _One(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return [self._family]


def _family(metrics: Metrics, i: Instrument) -> Metric:
    unit = _UNITS.get(i.unit, "")
    if i.kind == "histogram":
        return _histogram(metrics.histogram(i), unit)
    make = CounterMetricFamily if i.kind == "counter" else GaugeMetricFamily
    family = make(i.name, i.help, labels=i.labels, unit=unit)
    for labels, value in list(metrics.values(i).items()):
        family.add_metric(labels, value)
    return family


def _histogram(histogram: histograms.Histogram, unit: str) -> Metric:
    i = histogram.instrument
    family = HistogramMetricFamily(i.name, i.help, labels=i.labels, unit=unit)
    for labels, cell in list(histogram.items()):
        family.add_metric(labels, _buckets(cell), cell.total)
    return family


def _buckets(cell: histograms.Cell) -> list[Any]:
    buckets: list[Any] = []
    total = 0
    for n, (bound, count) in enumerate(zip((*cell.bounds, "+Inf"), tuple(cell.counts), strict=True)):
        total += count
        exemplar = cell.exemplars.get(n)
        buckets.append((str(bound), total) if exemplar is None else (str(bound), total, _exemplar(exemplar)))
    return buckets


def _exemplar(exemplar: histograms.Exemplar) -> Exemplar:
    value, time_ns, (trace_id, span_id) = exemplar
    labels = {"trace_id": f"{trace_id:032x}", "span_id": f"{span_id:016x}"}
    return Exemplar(labels, value, Timestamp(*divmod(time_ns, 1_000_000_000)))
