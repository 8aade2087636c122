"""What events add up to: the only place that counts. Counters are plain dicts, because this runs for every task."""

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, assert_never

from opentelemetry.metrics import Meter

from taskward.app import UNKNOWN_TYPE
from taskward.events import (
    Audited,
    BrokerCalled,
    Event,
    HandlerStuck,
    HttpAnswered,
    LeaseWasLost,
    LoopStalled,
    QueueSampled,
    SampleFailed,
    SlotsChanged,
    SubmissionRefused,
    TaskReaped,
    TaskSettled,
    TasksExpired,
    TasksSubmitted,
    TaskStarted,
)
from taskward.policy.retry import Bury, Cancel, Complete, Decision, Release, RetryIn, Stopped, Succeeded
from taskward.task import CancelCause, Lease
from taskward.telemetry.histograms import Histogram, Labels, Record
from taskward.telemetry.instruments import ERROR_KINDS, INSTRUMENTS, RUN_BUCKETS, TASK_STATES, VIOLATIONS, Instrument
from taskward.telemetry.tracing import CurrentSpan, Span

Reading = Mapping[Labels, float]

_STATE_SECONDS = "task_state_seconds_total"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})


class Counter(dict[Labels, float]):
    """The series of one counter, by label values."""

    def __missing__(self, labels: Labels) -> float:
        return 0


class Counts:
    """Counters by their names in the table, the meter's histograms, and the latest of what is read, not counted.

    `current_span` names the sampled span that is current, for exemplars. `clock` is in seconds.
    """

    def __init__(
        self,
        meter: Meter,
        *,
        priorities: Sequence[str],
        types: Sequence[str] = (),
        current_span: CurrentSpan | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        values = {"type": (*types, UNKNOWN_TYPE), "priority": tuple(priorities)}
        counters = [i for i in _of("counter") if i.name != _STATE_SECONDS]
        self.counters = {i.name: Counter(dict.fromkeys(_known(i, values), 0)) for i in counters}
        self._histograms = {i.name: Histogram(i, meter, _known(i, values)) for i in _of("histogram")}
        self.sample: QueueSampled | None = None
        self.sampled_at = 0.0
        self.slots: SlotsChanged | None = None
        self.stuck: set[tuple[str, int]] = set()
        self.violations: Mapping[str, int] = {}
        self._current_span = current_span
        self._clock = clock
        self._dequeued = self.counters["tasks_dequeued_total"]
        self._succeeded = self.counters["tasks_succeeded_total"]
        self._failed = self.counters["tasks_failed_total"]
        self._wait = self._histograms["enqueue_to_start_seconds"]
        self._types = _Types(self._histograms["task_run_seconds"])
        self._attempts = self._histograms["task_attempts"][()]
        self._count: dict[type, Callable[[Any], None]] = {
            TaskStarted: self._started,
            TaskSettled: self._settled,
            LeaseWasLost: self._lease_lost,
            SlotsChanged: self._slots_changed,
            BrokerCalled: self._broker_called,
            TasksSubmitted: self._submitted,
            SubmissionRefused: lambda e: self._add("tasks_rejected_total", e.reason),
            HttpAnswered: self._http_answered,
            TaskReaped: self._reaped,
            TasksExpired: lambda e: self._add("tasks_expired_total", n=e.count),
            QueueSampled: self._sampled,
            SampleFailed: lambda _: self._add("metrics_sample_failures_total"),
            Audited: self._audited,
            HandlerStuck: lambda e: self.stuck.add((e.lease.id, e.lease.token)),
            LoopStalled: lambda _: self._add("loop_stalls_total"),
        }

    def observe(self, event: Event) -> None:
        """Count an event; an Observer. Events that nothing is counted of pass by."""
        count = self._count.get(type(event))
        if count is not None:
            count(event)

    def readings(self) -> dict[str, Callable[[], Reading]]:
        """How to read each counter of the table, by name. No reading raises, in whichever thread it is called."""
        return {name: counter.copy for name, counter in self.counters.items()} | {_STATE_SECONDS: self._state_seconds}

    def work_totals(self) -> dict[str, Any]:
        """What the attempts of this process add up to, as JSON: for the sum over workers in GET /metrics/summary.

        {"bounds": [seconds], "types": {type: {"buckets": [count per bucket, the last above every bound],
        "sum": seconds, "succeeded": n, "failed": n, "cancelled": n}}}
        """
        return {"bounds": list(RUN_BUCKETS), "types": {type_: self._totals_of(type_) for type_ in self._types}}

    def _totals_of(self, type_: str) -> dict[str, Any]:
        of_type, ends = self._types[type_], ("succeeded", "failed", "cancelled")
        return {"buckets": list(of_type.buckets), "sum": of_type.ran} | {
            end: sum(n for labels, n in self.counters[f"tasks_{end}_total"].items() if labels[0] == type_)
            for end in ends
        }

    def _state_seconds(self) -> Reading:
        types = self._types.copy().items()
        return {(type_, state): getattr(of_type, state) for type_, of_type in types for state in TASK_STATES}

    def _add(self, name: str, *labels: str, n: float = 1) -> None:
        self.counters[name][labels] += n

    def _started(self, event: TaskStarted) -> None:
        key = (event.lease.spec.priority,)
        if (waited := event.waited) < 0.0:
            waited = 0.0  # the server's clock was set back
        self._dequeued[key] += 1
        self._wait[key](waited, None if self._current_span is None else self._current_span())
        of_type = self._types[event.known_type]
        of_type.queued += waited
        lease = event.lease
        if lease.attempt == 1 and (lease.spec.run_at_ms or lease.spec.delay_ms):
            of_type.scheduled += _scheduled_seconds(lease)

    def _settled(self, event: TaskSettled) -> None:
        lease, type_, outcome = event.lease, event.known_type, event.outcome
        key = (type_, lease.spec.priority)
        self._attempted(lease, type_, event.seconds, event.span)
        if event.cancelling:
            self._types[type_].cancelling += event.cancelling
        # Each attempt is in exactly one of the three, so that they add up to task_run_seconds_count.
        if isinstance(outcome, Succeeded):
            self._succeeded[key] += 1
        elif isinstance(outcome, Stopped) and outcome.cause is not CancelCause.TIMEOUT:
            self._add("tasks_cancelled_total", *key, outcome.cause)
        else:
            self._failed[key] += 1
        self._decided(event.decision, key, lease)

    def _attempted(self, lease: Lease, type_: str, seconds: float, span: object) -> None:
        of_type = self._types[type_]
        of_type.run(seconds, span if isinstance(span, Span) else None)
        of_type.buckets[bisect_left(RUN_BUCKETS, seconds)] += 1
        of_type.ran += seconds
        if self.stuck:
            self.stuck.discard((lease.id, lease.token))

    def _decided(self, decision: Decision, key: tuple[str, str], lease: Lease) -> None:
        match decision:
            case Complete() | Cancel():
                self._attempts(lease.attempt)
            case RetryIn(seconds, reason):
                self._add("tasks_retried_total", *key)
                self._add("task_retry_reasons_total", reason)
                self._types[key[0]].retry_wait += seconds
            case Bury(reason):
                self._attempts(lease.attempt)
                self._add("tasks_dead_total", *key, reason)
            case Release():
                self._add("tasks_released_total", key[1])
            case _:
                assert_never(decision)

    def _lease_lost(self, event: LeaseWasLost) -> None:
        self._attempted(event.lease, event.known_type, event.seconds, None)
        priority = event.lease.spec.priority
        self._add("tasks_cancelled_total", event.known_type, priority, CancelCause.LEASE_LOST)
        self._add("fenced_writes_total", event.op)

    def _reaped(self, event: TaskReaped) -> None:
        self._add("tasks_reaped_total", event.priority)
        if event.end == "dead":
            self._add("tasks_dead_total", UNKNOWN_TYPE, event.priority, "reaped")

    def _submitted(self, event: TasksSubmitted) -> None:
        self._add("tasks_enqueued_total", event.priority, n=event.created)
        self._add("tasks_deduplicated_total", event.priority, n=event.duplicates)
        if event.created:
            mean = event.payload_bytes / event.created
            self._histograms["task_payload_bytes"][()](mean, times=event.created)

    def _http_answered(self, event: HttpAnswered) -> None:
        method = event.method if event.method in _METHODS else "_OTHER"
        labels = (method, event.route, str(event.status))
        self._histograms["http_server_request_duration_seconds"][labels](event.seconds)

    def _broker_called(self, event: BrokerCalled) -> None:
        took, errors = self._histograms["redis_command_seconds"], self.counters["redis_errors_total"]
        if (event.op,) not in took:
            errors.update({(event.op, kind): 0 for kind in ERROR_KINDS})
        took[event.op,](event.seconds)
        if event.error is not None:
            errors[event.op, event.error] += 1

    def _sampled(self, event: QueueSampled) -> None:
        self.sample, self.sampled_at = event, self._clock()

    def _audited(self, event: Audited) -> None:
        self.violations = dict.fromkeys(VIOLATIONS, 0) | event.violations

    def _slots_changed(self, event: SlotsChanged) -> None:
        self.slots = event


def _scheduled_seconds(lease: Lease) -> float:
    """How long the task waited for its time. One that was redriven may have been queued much later than that."""
    return max(0.0, min(lease.due_ms, lease.queued_us / 1000) - lease.created_ms) / 1000


class _Type:
    """What the attempts of one type add up to: seconds spent in each of TASK_STATES, and run times by RUN_BUCKETS.

    The buckets are for `work_totals`: what a histogram of the SDK has been told cannot be asked back.
    """

    __slots__ = ("buckets", "cancelling", "queued", "ran", "retry_wait", "run", "scheduled")

    def __init__(self, run: Record) -> None:
        self.run = run
        self.buckets = [0] * (len(RUN_BUCKETS) + 1)
        self.scheduled = self.queued = self.ran = self.cancelling = self.retry_wait = 0.0

    @property
    def running(self) -> float:
        """Before anybody asked the handler to stop."""
        return self.ran - self.cancelling


class _Types(dict[str, _Type]):
    def __init__(self, runs: Histogram) -> None:
        super().__init__({type_: _Type(run) for (type_,), run in runs.items()})
        self._runs = runs

    def __missing__(self, type_: str) -> _Type:
        made = self[type_] = _Type(self._runs[type_,])
        return made


def _of(kind: str) -> list[Instrument]:
    return [i for i in INSTRUMENTS if i.kind == kind]


def _known(instrument: Instrument, values: Mapping[str, tuple[str, ...]]) -> list[Labels]:
    """The label sets that can be told in advance: none where one label cannot."""
    known = {**values, **(instrument.known or {})}
    return list(product(*(known.get(label, ()) for label in instrument.labels)))
