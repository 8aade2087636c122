"""A task as a reader sees it: its instants, and where its age went."""

from typing import Any

import pytest

from taskward.client.view import instant, timeline, view
from taskward.task import Attempt, ErrorInfo, Spec, State, Task

T0 = 1_700_000_000_000


def task(state: State, *attempts: Attempt, **fields: Any) -> Task:
    return Task(id="t", spec=Spec(type="x"), state=state, created_ms=T0, attempts=attempts, **fields)


def attempt(
    n: int, queued: int, started: int, finished: int, outcome: str = "failed", *, cancelled: int | None = None
) -> Attempt:
    """Seconds after the task was made."""
    return Attempt(
        n=n,
        worker_id="w",
        queued_ms=T0 + 1000 * queued,
        started_ms=T0 + 1000 * started,
        finished_ms=T0 + 1000 * finished,
        outcome=outcome,
        error=ErrorInfo("E", f"no {n}") if outcome == "failed" else None,
        cancelled_ms=None if cancelled is None else T0 + 1000 * cancelled,
    )


def at(seconds: int) -> int:
    return T0 + 1000 * seconds


CASES: list[tuple[str, Task, int, dict[str, float]]] = [
    ("scheduled", task(State.SCHEDULED, run_at_ms=at(60)), 10, {"scheduled": 10}),
    ("queued at once", task(State.QUEUED, queued_ms=at(0)), 10, {"queued": 10}),
    ("queued when due", task(State.QUEUED, run_at_ms=at(4), queued_ms=at(4)), 10, {"scheduled": 4, "queued": 6}),
    (
        "running",
        task(State.RUNNING, queued_ms=at(1), started_ms=at(3)),
        10,
        {"scheduled": 1, "queued": 2, "running": 7},
    ),
    (
        "asked to stop",
        task(State.CANCELLING, queued_ms=at(1), started_ms=at(3), cancelled_ms=at(6)),
        10,
        {"scheduled": 1, "queued": 2, "running": 3, "cancelling": 4},
    ),
    (
        "asked to stop, nobody knows when",
        task(State.CANCELLING, queued_ms=at(1), started_ms=at(3)),
        10,
        {"scheduled": 1, "queued": 2, "running": 7},
    ),
    (
        "stopped",
        task(State.CANCELLED, attempt(1, 0, 2, 9, "cancelled", cancelled=6), finished_ms=at(9)),
        99,
        {"queued": 2, "running": 4, "cancelling": 3},
    ),
    (
        "succeeded",
        task(State.SUCCEEDED, attempt(1, 0, 2, 5, "succeeded"), finished_ms=at(5)),
        99,
        {"queued": 2, "running": 3},
    ),
    ("retrying", task(State.RETRYING, attempt(1, 0, 1, 2)), 10, {"queued": 1, "running": 1, "retry_wait": 8}),
    (
        "retried",
        task(State.SUCCEEDED, attempt(1, 0, 1, 2), attempt(2, 5, 6, 9, "succeeded"), finished_ms=at(9)),
        99,
        {"queued": 2, "running": 4, "retry_wait": 3},
    ),
    (
        "released, back in line at once",
        task(State.QUEUED, attempt(1, 0, 1, 2, "released"), queued_ms=at(0)),
        10,
        {"queued": 9, "running": 1},
    ),
    ("dead", task(State.DEAD, attempt(1, 0, 1, 2), finished_ms=at(2)), 99, {"queued": 1, "running": 1}),
    (
        "redriven",
        task(State.RUNNING, attempt(1, 0, 1, 2), attempt(1, 6, 7, 8), attempt=2, queued_ms=at(9), started_ms=at(9)),
        10,
        {"queued": 2, "running": 3, "dead": 4, "retry_wait": 1},
    ),
    (
        "redriven, queued",
        task(State.QUEUED, attempt(1, 0, 1, 2), queued_ms=at(6)),
        9,
        {"queued": 4, "running": 1, "dead": 4},
    ),
    (
        "redriven, for later",
        task(State.SCHEDULED, attempt(1, 0, 1, 2), run_at_ms=at(20)),
        9,
        {"queued": 1, "running": 1, "dead": 7},
    ),
    (
        "redriven, running",
        task(State.RUNNING, attempt(1, 0, 1, 2), attempt=1, queued_ms=at(6), started_ms=at(8)),
        9,
        {"queued": 3, "running": 2, "dead": 4},
    ),
    ("cancelled before it was due", task(State.CANCELLED, run_at_ms=at(60), finished_ms=at(5)), 99, {"scheduled": 5}),
    ("cancelled in the queue", task(State.CANCELLED, finished_ms=at(5)), 99, {"queued": 5}),
    (
        "expired",
        task(State.EXPIRED, run_at_ms=at(3), queued_ms=at(3), finished_ms=at(5)),
        99,
        {"scheduled": 3, "queued": 2},
    ),
    ("clocks that disagree", task(State.RUNNING, queued_ms=at(5), started_ms=at(2)), 4, {"scheduled": 4}),
]


@pytest.mark.parametrize(("given", "now", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_timeline_is_the_whole_age(given: Task, now: int, expected: dict[str, float]) -> None:
    spent = timeline(given, at(now))
    assert spent is not None
    found = {name: getattr(spent, name) for name in spent.__struct_fields__}
    assert {name: seconds for name, seconds in found.items() if seconds} == expected


def test_without_the_first_attempts_nobody_can_tell() -> None:
    assert timeline(task(State.RETRYING, attempt(7, 0, 1, 2)), at(10)) is None


def test_instants_are_utc_with_milliseconds() -> None:
    assert instant(1_700_000_000_123) == "2023-11-14T22:13:20.123Z"
    assert instant(0) == "1970-01-01T00:00:00.000Z"
    assert instant(None) is None
    assert all(instant(T0 + ms) == f"2023-11-14T22:13:20.{ms:03d}Z" for ms in range(1000))


def test_the_last_error_is_shown() -> None:
    shown = view(task(State.DEAD, attempt(1, 0, 1, 2), attempt(2, 3, 4, 5), finished_ms=at(5)), at(9))
    assert shown.last_error == ErrorInfo("E", "no 2")
    assert (shown.terminal, shown.attempts[1].started_at) == (True, "2023-11-14T22:13:24.000Z")
