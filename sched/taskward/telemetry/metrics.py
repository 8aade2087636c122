"""Metrics: one observer of events, and the same numbers for whoever reads them, by the table. Nothing is global."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taskward.events import Observer
from taskward.telemetry.counts import Counts, CurrentSpan
from taskward.telemetry.gauges import Reading, gauges
from taskward.telemetry.histograms import Histogram
from taskward.telemetry.instruments import Instrument, Role, for_role
from taskward.telemetry.loop import LoopMonitor


class Metrics:
    """What one process exports: rendered at a scrape by exposition.py, sent as OTLP by push.py.

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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        counts = Counts(priorities=priorities, types=types, current_span=current_span, clock=clock)
        self.observe: Observer = counts.observe
        self.work_totals: Callable[[], dict[str, Any]] = counts.work_totals
        self.loop = LoopMonitor()
        self.instruments = for_role(role)
        self.began_ns = time.time_ns()
        self.resource = resource(role, instance_id, version)
        self._counts = counts
        self._gauges = gauges(counts, loop=self.loop, version=version, sample_seconds=sample_seconds, clock=clock)

    def values(self, instrument: Instrument) -> Reading:
        """A counter or gauge as it stands: numbers by label values. Never raises."""
        if instrument.kind == "counter":
            return self._counts.counters[instrument.name]
        return self._gauges[instrument.name]()

    def histogram(self, instrument: Instrument) -> Histogram:
        """A histogram as it stands."""
        return self._counts.histograms[instrument.name]

    def audited(self, violations: Mapping[str, int]) -> None:
        """What the auditor found wrong in its latest pass, by kind."""
        self._counts.violations = violations


def resource(role: Role, instance_id: str, version: str) -> dict[str, str]:
    """The OpenTelemetry resource of a process: who speaks, in metrics and traces alike."""
    return {"service.name": f"taskward-{role}", "service.instance.id": instance_id, "service.version": version}
