"""TaskView: a task in the words of the HTTP API, for whoever reads one."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from taskward.task import Attempt, ErrorInfo, Progress, RetryPolicy, State, Task, all_headers


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """One run that has ended. Instants are RFC 3339 in UTC with milliseconds, here and below."""

    n: int
    worker_id: str
    started_at: str
    finished_at: str
    outcome: str
    error: ErrorInfo | None
    cancel_cause: str | None


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """Where a task's age went, in seconds; the sum is its age. `dead`: between giving up and a redrive.

    `cancelling` is from the request to stop to the handler's end. A time-out's or shutdown's, which the worker alone
    knows of, is part of `running` until that end.
    """

    scheduled: float
    queued: float
    running: float
    cancelling: float
    retry_wait: float
    dead: float


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """A task as GET /tasks/{id} shows it. null stands for what does not apply, or was left to a default."""

    id: str
    type: str
    priority: str
    state: State
    terminal: bool
    payload: Any
    result: Any
    attempt: int
    max_attempts: int | None
    created_at: str
    run_at: str | None
    delay_seconds: float | None
    queued_at: str | None
    started_at: str | None
    finished_at: str | None
    expires_at: str | None
    deadline: str | None
    timeout_seconds: float | None
    retry: RetryPolicy | None
    idempotency_key: str | None
    tags: tuple[str, ...]
    headers: dict[str, str]
    worker_id: str | None
    token: int | None
    lease_expires_at: str | None
    cancel_cause: str | None
    last_error: ErrorInfo | None
    attempts: tuple[AttemptView, ...]
    progress: Progress | None
    timeline: Timeline | None


def view(task: Task, now_ms: int) -> TaskView:
    """`now_ms` closes the timeline of a task that has not ended."""
    spec = task.spec
    return TaskView(
        id=task.id,
        type=spec.type,
        priority=spec.priority,
        state=task.state,
        terminal=task.terminal,
        payload=spec.payload,
        result=task.result,
        attempt=task.attempt,
        max_attempts=spec.max_attempts,
        created_at=_instant(task.created_ms),
        run_at=instant(task.run_at_ms),
        delay_seconds=_seconds(spec.delay_ms),
        queued_at=instant(task.queued_ms),
        started_at=instant(task.started_ms),
        finished_at=instant(task.finished_ms),
        expires_at=instant(spec.expires_ms),
        deadline=instant(spec.deadline_ms),
        timeout_seconds=_seconds(spec.timeout_ms),
        retry=spec.retry,
        idempotency_key=spec.idempotency_key,
        tags=spec.tags or (),
        headers=all_headers(spec),
        worker_id=task.worker_id,
        token=task.token,
        lease_expires_at=instant(task.lease_expires_ms),
        cancel_cause=task.cancel_cause,
        last_error=task.last_error,
        attempts=tuple(map(_attempt, task.attempts)),
        progress=task.progress,
        timeline=timeline(task, now_ms),
    )


def instant(ms: int | None) -> str | None:
    """Unix ms -> RFC 3339 in UTC, or None for None."""
    return None if ms is None else _instant(ms)


def _instant(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


def _attempt(attempt: Attempt) -> AttemptView:
    return AttemptView(
        n=attempt.n,
        worker_id=attempt.worker_id,
        started_at=_instant(attempt.started_ms),
        finished_at=_instant(attempt.finished_ms),
        outcome=attempt.outcome,
        error=attempt.error,
        cancel_cause=attempt.cancel_cause,
    )


def timeline(task: Task, now_ms: int) -> Timeline | None:
    """None where the first attempts are no longer in the history, so that nobody can tell."""
    if task.attempts and task.attempts[0].n > 1:
        return None
    end_ms = task.finished_ms if task.terminal and task.finished_ms else now_ms
    spent = _Spent(task.created_ms, end_ms)
    gap = "scheduled"
    for n, attempt in enumerate(task.attempts):
        if n and attempt.n == 1 and task.attempts[n - 1].outcome == "failed":
            gap = "dead"
        spent.until(attempt.queued_ms, gap)
        spent.until(attempt.started_ms, "queued")
        spent.until(attempt.cancelled_ms or attempt.finished_ms, "running")
        spent.until(attempt.finished_ms, "cancelling")
        gap = "retry_wait"
    if _redriven(task):
        gap = "dead"
    _last_stretch(task, spent, gap, end_ms)
    return Timeline(**{name: ms / 1000 for name, ms in spent.ms.items()})


def _redriven(task: Task) -> bool:
    """It was dead after its last attempt that has ended: the next is counted anew."""
    running = task.state in (State.RUNNING, State.CANCELLING)
    waiting = task.state in (State.QUEUED, State.SCHEDULED)
    anew = (running and task.attempt == 1) or (waiting and task.attempt == 0)
    return anew and bool(task.attempts) and task.attempts[-1].outcome == "failed"


def _last_stretch(task: Task, spent: "_Spent", gap: str, end_ms: int) -> None:
    """What came after the last attempt that ended, up to `end_ms`."""
    match task.state:
        case State.SCHEDULED | State.RETRYING:
            spent.until(end_ms, gap)
        case State.QUEUED:
            spent.until(task.queued_ms or end_ms, gap)
            spent.until(end_ms, "queued")
        case State.RUNNING | State.CANCELLING:
            spent.until(task.queued_ms or end_ms, gap)
            spent.until(task.started_ms or end_ms, "queued")
            spent.until(task.cancelled_ms or end_ms, "running")
            spent.until(end_ms, "cancelling")
        case _ if task.attempts:
            spent.until(end_ms, gap)
        case _:  # ended without ever having run
            spent.until(task.run_at_ms or task.created_ms, gap)
            spent.until(end_ms, "queued")


class _Spent:
    """A hand that only moves on: each stretch begins where the last one ended, so the sum is the whole."""

    def __init__(self, from_ms: int, end_ms: int) -> None:
        self.ms = dict.fromkeys(("scheduled", "queued", "running", "cancelling", "retry_wait", "dead"), 0)
        self._at = from_ms
        self._end = end_ms

    def until(self, to_ms: int, kind: str) -> None:
        to_ms = min(to_ms, self._end)
        if to_ms > self._at:
            self.ms[kind] += to_ms - self._at
            self._at = to_ms
