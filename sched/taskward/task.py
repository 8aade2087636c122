"""The task: its states and legal moves, what was submitted (Spec), and the whole as a reader sees it (Task)."""

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from taskward.errors import InvalidTask, InvalidTransition


class State(StrEnum):
    """Where a task is. `dead` is terminal until somebody redrives it."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


TERMINAL = frozenset({State.SUCCEEDED, State.DEAD, State.CANCELLED, State.EXPIRED})

# Why, where it is not plain: running -> queued is a release or a reaped lease; a cancelling task may still
# succeed, because the handler finished before it heard; cancelling -> dead is a handler that says Discard.
TRANSITIONS: dict[State, frozenset[State]] = {
    State.SCHEDULED: frozenset({State.QUEUED, State.CANCELLED}),
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED, State.EXPIRED}),
    State.RUNNING: frozenset(
        {State.SUCCEEDED, State.RETRYING, State.QUEUED, State.DEAD, State.CANCELLING, State.CANCELLED}
    ),
    State.CANCELLING: frozenset({State.CANCELLED, State.SUCCEEDED, State.DEAD}),
    State.RETRYING: frozenset({State.QUEUED, State.CANCELLED}),
    State.DEAD: frozenset({State.QUEUED, State.SCHEDULED}),
    State.SUCCEEDED: frozenset(),
    State.CANCELLED: frozenset(),
    State.EXPIRED: frozenset(),
}


def require_transition(before: State, after: State) -> None:
    """Raise InvalidTransition unless TRANSITIONS allows the move."""
    if after not in TRANSITIONS[before]:
        raise InvalidTransition(f"{before} -> {after}")


class CancelCause(StrEnum):
    """Why a running attempt was stopped. The cause chooses the rule (policy/retry.py)."""

    USER = "user"
    TIMEOUT = "timeout"
    DEADLINE = "deadline"
    SHUTDOWN = "shutdown"
    LEASE_LOST = "lease_lost"


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exponential back-off: min(max_seconds, base_seconds * multiplier**(attempt-1)), drawn over `jitter` of it.

    The bounds are those of a submission's; a policy made in a program is not held to them.
    """

    base_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 1.0
    max_seconds: Annotated[float, Meta(ge=0, le=7 * 86_400)] = 600.0
    multiplier: Annotated[float, Meta(ge=1, le=100)] = 2.0
    jitter: Annotated[float, Meta(ge=0, le=1)] = 1.0


class Spec(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What was submitted: never changed afterwards. None means the handler's or the server's default.

    `run_at_ms` and `delay_ms` exclude each other. Instants are Unix milliseconds. The order of the fields is that of
    the stored array (codec.py): new ones go to the end.
    """

    type: str
    payload: Any = None
    priority: str = "default"
    run_at_ms: int | None = None
    delay_ms: int | None = None
    expires_ms: int | None = None
    deadline_ms: int | None = None
    timeout_ms: int | None = None
    max_attempts: int | None = None
    retry: RetryPolicy | None = None
    idempotency_key: str | None = None
    tags: tuple[str, ...] | None = None
    headers: dict[str, str] | None = None
    # The W3C trace context of the submission. It is no part of what was asked for: a repetition has another one.
    traceparent: str | None = None

    @property
    def start_by_ms(self) -> int | None:
        """The last moment at which starting makes sense: the earlier of expiry and deadline."""
        if self.expires_ms is None or self.deadline_ms is None:
            return self.expires_ms or self.deadline_ms
        return min(self.expires_ms, self.deadline_ms)


def all_headers(spec: Spec) -> dict[str, str]:
    """The headers as a handler gets them, the trace context among them."""
    trace = {} if spec.traceparent is None else {"traceparent": spec.traceparent}
    return {**(spec.headers or {}), **trace}


class Submission(msgspec.Struct, frozen=True, gc=False):
    """A Spec with the id it is to be stored under. `late`: its times have passed, so it can only be the repetition of
    one that is stored; this is what is wrong with it otherwise.
    """

    id: str
    spec: Spec
    late: InvalidTask | None = None


class Submitted(msgspec.Struct, frozen=True, gc=False):
    """The answer to a Submission: the id to ask for, and whether this call created the task."""

    id: str
    created: bool


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """A handler's exception as text; never turned back into a class."""

    type: str
    message: str
    traceback: str = ""


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run that has ended. `outcome`: succeeded, failed, cancelled, released or reaped.

    `cancelled_ms` is when the handler was asked to stop, where it was.
    """

    n: int
    worker_id: str
    queued_ms: int
    started_ms: int
    finished_ms: int
    outcome: str
    error: ErrorInfo | None = None
    cancel_cause: str | None = None
    cancelled_ms: int | None = None


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a handler last said of how far it is."""

    current: float
    total: float | None = None
    message: str = ""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task as a reader sees it, put together from everything the store holds. Instants are Unix ms.

    `cancelled_ms` is when the attempt that still runs was asked to stop.
    """

    id: str
    spec: Spec
    state: State
    created_ms: int
    run_at_ms: int | None = None
    queued_ms: int | None = None
    started_ms: int | None = None
    finished_ms: int | None = None
    lease_expires_ms: int | None = None
    attempt: int = 0
    reaps: int = 0
    token: int | None = None
    worker_id: str | None = None
    cancel_cause: str | None = None
    cancelled_ms: int | None = None
    result: Any = None
    attempts: tuple[Attempt, ...] = ()
    progress: Progress | None = None

    @property
    def terminal(self) -> bool:
        """No move leads out of this state but a redrive."""
        return self.state in TERMINAL

    @property
    def last_error(self) -> ErrorInfo | None:
        """The error of the latest attempt that had one."""
        return next((a.error for a in reversed(self.attempts) if a.error is not None), None)


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The right to run one task until the lease ends; every write about it carries `token`.

    `held_until` is on this process's Trio clock and already early by the safety margin: past it, stop.
    """

    id: str
    spec: Spec
    token: int
    attempt: int
    queued_us: int
    started_us: int
    held_until: float
    created_ms: int = 0

    @property
    def due_ms(self) -> int:
        """When the task was to start, as it was submitted."""
        return self.spec.run_at_ms or self.created_ms + (self.spec.delay_ms or 0)
