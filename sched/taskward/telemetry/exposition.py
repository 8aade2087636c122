"""Metrics as Prometheus reads them: OpenTelemetry's exporter, and the exemplars that it leaves out."""

import gzip
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from threading import Lock
from typing import Any

import trio
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import Exemplar as SpanExemplar
from opentelemetry.sdk.metrics.export import Histogram, HistogramDataPoint, MetricsData
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample, Timestamp

# Some 3 ms. Fewer would hold the loop less, and make the scrape wait for more of its turns.
SAMPLES_A_TURN = 400

_END = b"# EOF\n"
# Which bucket of which series: name, labels, and its upper bound as text.
_Bucket = tuple[str, frozenset[tuple[str, str]]]


class ScrapeReader(PrometheusMetricReader):
    """The provider's reader for scrapes. `registry` is what one shows, the process's own numbers among it.

    Each bucket's latest exemplar is kept, for the SDK gives it to one scrape only and there may be two Prometheus.
    """

    def __init__(self) -> None:
        self._exported = CollectorRegistry()
        super().__init__(scope_info_enabled=False, registry=self._exported)
        self._exemplars: dict[_Bucket, Exemplar] = {}
        self._scrape = Lock()
        self.registry = CollectorRegistry()
        self.registry.register(_Families(self._families))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def _families(self) -> list[Metric]:
        # The exporter hands what it has collected to whoever asks next: two scrapes at once would rob one another.
        with self._scrape:
            families = list(self._exported.collect())
            if self._exemplars:
                for family in families:
                    if family.type == "histogram":
                        family.samples = [self._with_exemplar(family.name, sample) for sample in family.samples]
            return families

    def _with_exemplar(self, name: str, sample: Sample) -> Sample:
        return sample._replace(exemplar=self._exemplars.get((name, frozenset(sample.labels.items()))))

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        self._exemplars.update(_exemplars(metrics_data))
        super()._receive_metrics(metrics_data, timeout_millis, **kwargs)


class Exposition:
    """Renders a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    async def render(self, *, accept: str, accept_encoding: str) -> tuple[bytes, dict[str, str]]:
        """The body and its headers. The numbers are of one moment; a long rendering lets the loop turn in between."""
        encode, content_type = _encoder_for(accept)
        headers = {"Content-Type": content_type}
        parts, samples = [], 0
        for family in list(self._registry.collect()):
            parts.append(encode(_Families(partial(iter, [family]))).removesuffix(_END))
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


def _encoder_for(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """The plain text format for whoever asks for a version that is none: prometheus_client raises then."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):
        return choose_encoder("")


class _Families(Collector):
    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        return self._read()


def _exemplars(data: MetricsData) -> Iterator[tuple[_Bucket, Exemplar]]:
    """Of the histograms that Prometheus can know by the names they have; all of the table's are such."""
    scopes = (scope for resource in data.resource_metrics for scope in resource.scope_metrics)
    for metric in (metric for scope in scopes for metric in scope.metrics):
        if isinstance(metric.data, Histogram):
            for point in metric.data.data_points:
                for exemplar in point.exemplars:
                    if exemplar.trace_id is not None and exemplar.span_id is not None:
                        yield (metric.name, _labels(point, exemplar.value)), _shown(exemplar)


def _labels(point: HistogramDataPoint, value: float) -> frozenset[tuple[str, str]]:
    bound = next((bound for bound in point.explicit_bounds if value <= bound), "+Inf")
    return frozenset([*((key, str(value)) for key, value in (point.attributes or {}).items()), ("le", str(bound))])


def _shown(exemplar: SpanExemplar) -> Exemplar:
    labels = {"trace_id": f"{exemplar.trace_id:032x}", "span_id": f"{exemplar.span_id:016x}"}
    return Exemplar(labels, exemplar.value, Timestamp(*divmod(exemplar.time_unix_nano, 1_000_000_000)))
