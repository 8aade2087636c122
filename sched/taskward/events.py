"""What happens, as values: the core emits events, and only observers (metrics, logs, traces, tests) look at them.

Every TaskStarted is followed by exactly one TaskSettled or LeaseWasLost, on every path; "settled" means recorded.
Times are seconds on a monotonic clock unless the name says otherwise.
"""

from collections.abc import Callable

import msgspec

from taskward.policy.retry import Decision, Outcome
from taskward.task import Lease


class TasksSubmitted(msgspec.Struct, frozen=True):
    """The store has answered for new tasks of one priority; `duplicates` counts idempotent replays."""

    priority: str
    created: int
    duplicates: int
    payload_bytes: int = 0


class SubmissionRefused(msgspec.Struct, frozen=True):
    """A submission was turned away. `reason` is a problem type's last word (problems.py)."""

    reason: str


class TaskStarted(msgspec.Struct, frozen=True, gc=False):
    """A slot begins a task. `waited` counts from the moment the task could first run."""

    lease: Lease
    known_type: str
    waited: float


class TaskSettled(msgspec.Struct, frozen=True, gc=False):
    """The decision about an attempt is in the store. `seconds` is handler start to scope exit.

    `span` is what the tracer gave for the attempt, so that a measurement can point at it. `cancelling` is the part of
    `seconds` that passed after the handler had been asked to stop.
    """

    lease: Lease
    known_type: str
    outcome: Outcome
    decision: Decision
    seconds: float
    span: object = None
    cancelling: float = 0.0


class LeaseWasLost(msgspec.Struct, frozen=True):
    """The store refused a write with this lease's token (`op`: settle, extend, progress): someone else may run it."""

    lease: Lease
    known_type: str
    seconds: float
    op: str


class TaskReaped(msgspec.Struct, frozen=True):
    """A lease had expired. `end`: queued (back in line), retrying (after a pause), dead (MAX_REAPS) or cancelled."""

    id: str
    priority: str
    end: str


class TasksExpired(msgspec.Struct, frozen=True):
    """Tasks were dropped at claim because their expiry had passed."""

    count: int


class PrioritySample(msgspec.Struct, frozen=True):
    """Depths of one priority, and ages in seconds (None where the set is empty)."""

    priority: str
    queued: int
    scheduled: int
    retrying: int
    dead: int
    oldest_queued_age: float | None
    retry_overdue: float | None
    paused: bool = False


class QueueSampled(msgspec.Struct, frozen=True):
    """A reading of the whole queue. `memory` is the share of what Redis may use that is taken; `at_ms` is the server's
    clock; `took` is in seconds.
    """

    priorities: tuple[PrioritySample, ...]
    running: int
    cancelling: int
    finished: int
    workers: int
    memory: float
    at_ms: int
    took: float


class SampleFailed(msgspec.Struct, frozen=True):
    """The sampler got no answer: gauges grow old."""


class AdmissionChanged(msgspec.Struct, frozen=True):
    """The priorities refused from now on, because so much (`memory`, a share) of what Redis may use is taken."""

    closed: tuple[str, ...]
    memory: float


class Audited(msgspec.Struct, frozen=True):
    """The auditor has been through the whole store: what it found wrong, by kind."""

    violations: dict[str, int]


class BrokerCalled(msgspec.Struct, frozen=True, gc=False):
    """One round trip. `error` is a short fixed word (unavailable) or None."""

    op: str
    seconds: float
    error: str | None = None


class OutageBegan(msgspec.Struct, frozen=True):
    """Redis stopped answering `part` of this process; said once per outage."""

    part: str
    reason: str


class OutageEnded(msgspec.Struct, frozen=True):
    """Redis answers again, after `seconds`."""

    part: str
    seconds: float


class SlotsChanged(msgspec.Struct, frozen=True, gc=False):
    """How many slots a worker has taken, and has."""

    busy: int
    total: int


class HandlerStuck(msgspec.Struct, frozen=True):
    """A cancelled handler has not let go within the grace. `stack` is where it is."""

    lease: Lease
    known_type: str
    cause: str
    seconds: float
    stack: str


class LoopStalled(msgspec.Struct, frozen=True):
    """The Trio loop has not turned for `seconds`; `stack` is what holds it. Sent from the watchdog's thread."""

    seconds: float
    stack: str
    tasks: tuple[str, ...]


class HttpAnswered(msgspec.Struct, frozen=True, gc=False):
    """The API has answered. `route` is the template, never the path."""

    method: str
    route: str
    status: int
    seconds: float


class Lifecycle(msgspec.Struct, frozen=True):
    """A process's own milestones, for the log: started, draining, stopped ..."""

    what: str
    fields: dict[str, object] = {}


class Trouble(msgspec.Struct, frozen=True):
    """What somebody should look at, for the log: it counts as a warning."""

    what: str
    fields: dict[str, object] = {}


Event = (
    TasksSubmitted
    | SubmissionRefused
    | TaskStarted
    | TaskSettled
    | LeaseWasLost
    | TaskReaped
    | TasksExpired
    | QueueSampled
    | SampleFailed
    | AdmissionChanged
    | Audited
    | BrokerCalled
    | OutageBegan
    | OutageEnded
    | SlotsChanged
    | HandlerStuck
    | LoopStalled
    | HttpAnswered
    | Lifecycle
    | Trouble
)

# An observer must not block, await or raise: it is called where the event happens.
Observer = Callable[[Event], None]


def fan_out(*observers: Observer) -> Observer:
    """One observer that tells all of them, in order."""

    def observe(event: Event) -> None:
        for observer in observers:
            observer(event)

    return observers[0] if len(observers) == 1 else observe


def ignore(event: Event) -> None:
    """The observer that looks away."""
