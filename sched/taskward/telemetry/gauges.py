"""Gauges: read when somebody looks; those about the queue are gone once the last sample of it is too old."""

import platform
from collections.abc import Callable
from functools import partial
from operator import attrgetter

from taskward.telemetry.counts import Counts, Reading
from taskward.telemetry.loop import LoopMonitor

LEAST_STALE_SECONDS = 10.0

_OF_PRIORITY = {
    "queue_depth": attrgetter("queued"),
    "scheduled_depth": attrgetter("scheduled"),
    "retry_set_depth": attrgetter("retrying"),
    "dlq_depth": attrgetter("dead"),
    "queue_oldest_task_age_seconds": attrgetter("oldest_queued_age"),
    "retry_overdue_seconds": attrgetter("retry_overdue"),
    "queue_paused": attrgetter("paused"),
}
_OF_QUEUE = {
    "processing_inflight": attrgetter("running"),
    "workers_live": attrgetter("workers"),
    "redis_memory_used_ratio": attrgetter("memory"),
    "metrics_sample_duration_seconds": attrgetter("took"),
}


def gauges(
    counts: Counts, *, loop: LoopMonitor, version: str, sample_seconds: float, clock: Callable[[], float]
) -> dict[str, Callable[[], Reading]]:
    """How to read each gauge of the table, by name. No reading raises; an empty one means the gauge is absent now."""
    stale_after = max(3 * sample_seconds, LEAST_STALE_SECONDS)
    build: Reading = {(version, platform.python_version()): 1}

    def fresh() -> bool:
        return clock() - counts.sampled_at <= stale_after

    def of_priority(field: Callable[[object], float | None]) -> Reading:
        sample = counts.sample
        if sample is None or not fresh():
            return {}
        return {(p.priority,): field(p) or 0.0 for p in sample.priorities}  # an empty set has no age: zero, not absent

    def of_queue(field: Callable[[object], float]) -> Reading:
        return {(): field(counts.sample)} if counts.sample is not None and fresh() else {}

    def of_slots(field: Callable[[object], float]) -> Reading:
        return {(): field(counts.slots)} if counts.slots is not None else {}

    return {
        **{name: partial(of_priority, field) for name, field in _OF_PRIORITY.items()},
        **{name: partial(of_queue, field) for name, field in _OF_QUEUE.items()},
        "metrics_sample_timestamp_seconds": lambda: {(): counts.sample.at_ms / 1000} if counts.sample else {},
        "worker_slots_busy": partial(of_slots, attrgetter("busy")),
        "worker_slots": partial(of_slots, attrgetter("total")),
        "stuck_handlers": lambda: {(): len(counts.stuck)},
        "invariant_violations": lambda: {(kind,): n for kind, n in counts.violations.items()},
        "event_loop_lag_seconds": lambda: {(): loop.lag},
        "event_loop_busy_ratio": lambda: {(): loop.busy_ratio},
        "build_info": lambda: build,
    }
