"""Metrics: an observer of events, and the meter of OpenTelemetry's SDK that shows them by the table."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation, set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.metrics.view import DropAggregation, ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

from taskward.events import Observer
from taskward.telemetry.counts import Counts, Reading
from taskward.telemetry.exposition import ScrapeReader
from taskward.telemetry.gauges import gauges
from taskward.telemetry.instruments import INSTRUMENTS, Instrument, Role, for_role
from taskward.telemetry.loop import LoopMonitor
from taskward.telemetry.otlp import CLOSE_SECONDS
from taskward.telemetry.tracing import CurrentSpan

# No label is a client's, so there are as many series as the application is large: the SDK's 2000 would only merge them.
SERIES_LIMIT = 100_000


class Metrics:
    """What one process exports: `registry` is for scrapes, `readers` are told as well (otlp.py makes one that pushes).

    Label sets that `types` and `priorities` tell in advance start at zero. `sample_seconds` is how often the queue is
    sampled; `current_span` (tracing.py) is for exemplars.
    """

    def __init__(
        self,
        role: Role,
        *,
        priorities: Sequence[str],
        types: Sequence[str] = (),
        instance_id: str,
        version: str,
        sample_seconds: float = 2.0,
        current_span: CurrentSpan | None = None,
        readers: Sequence[MetricReader] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        scraped = ScrapeReader()
        self._provider = MeterProvider(
            [scraped, *readers],
            resource=Resource.create({**resource(role, instance_id, version)}),
            shutdown_on_exit=False,
            views=[_view(i, role) for i in INSTRUMENTS],
        )
        self.registry = scraped.registry
        self.meter: Meter = self._provider.get_meter("taskward", version)
        self.loop = LoopMonitor()
        counts = Counts(self.meter, priorities=priorities, types=types, current_span=current_span, clock=clock)
        self.observe: Observer = counts.observe
        self.work_totals: Callable[[], dict[str, Any]] = counts.work_totals
        readings = counts.readings() | gauges(
            counts, loop=self.loop, version=version, sample_seconds=sample_seconds, clock=clock
        )
        for i in for_role(role):
            if i.kind != "histogram":
                _observe(self.meter, i, readings[i.name])

    def share(self) -> None:
        """Make the provider the process's own: instruments of the application are exported beside these. Once."""
        set_meter_provider(self._provider)

    def shutdown(self) -> None:
        """Tell the readers for a last time. Blocks, for CLOSE_SECONDS (otlp.py) at most."""
        self._provider.shutdown(timeout_millis=CLOSE_SECONDS * 1000)


def resource(role: Role, instance_id: str, version: str) -> dict[str, str]:
    """The OpenTelemetry resource of a process: who speaks, in metrics and traces alike."""
    return {"service.name": f"taskward-{role}", "service.instance.id": instance_id, "service.version": version}


def _view(i: Instrument, role: Role) -> View:
    if role not in i.roles:
        aggregation: Any = DropAggregation()
    elif i.kind == "histogram":
        aggregation = ExplicitBucketHistogramAggregation(boundaries=i.buckets, record_min_max=False)
    else:
        aggregation = None
    return View(instrument_name=i.name, aggregation=aggregation, aggregation_cardinality_limit=SERIES_LIMIT)


def _observe(meter: Meter, i: Instrument, read: Callable[[], Reading]) -> None:
    """`read` is called at every scrape and push, in whichever thread that is. It must not raise."""
    create = meter.create_observable_counter if i.kind == "counter" else meter.create_observable_gauge
    create(i.name, [partial(_observations, i.labels, read)], unit=i.unit, description=i.help)


def _observations(names: Sequence[str], read: Callable[[], Reading], _options: CallbackOptions) -> list[Observation]:
    return [Observation(value, dict(zip(names, labels, strict=True))) for labels, value in read().items()]
