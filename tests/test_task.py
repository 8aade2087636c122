"""The states and their legal moves, and the small arithmetic of a Spec and a Task."""

import msgspec
import pytest

from taskward.errors import InvalidTransition
from taskward.task import (
    TERMINAL,
    TRANSITIONS,
    Attempt,
    ErrorInfo,
    RetryPolicy,
    Spec,
    State,
    Task,
    require_transition,
)

LEGAL = {
    ("scheduled", "queued"),
    ("scheduled", "cancelled"),
    ("queued", "running"),
    ("queued", "cancelled"),
    ("queued", "expired"),
    ("running", "succeeded"),
    ("running", "retrying"),
    ("running", "queued"),
    ("running", "dead"),
    ("running", "cancelling"),
    ("running", "cancelled"),
    ("cancelling", "cancelled"),
    ("cancelling", "succeeded"),
    ("cancelling", "dead"),
    ("retrying", "queued"),
    ("retrying", "cancelled"),
    ("dead", "queued"),
    ("dead", "scheduled"),
}


@pytest.mark.parametrize("before", list(State))
@pytest.mark.parametrize("after", list(State))
def test_every_pair_of_states(before: State, after: State) -> None:
    if (before, after) in LEGAL:
        require_transition(before, after)
    else:
        with pytest.raises(InvalidTransition, match=f"{before} -> {after}"):
            require_transition(before, after)


def test_the_table_knows_every_state() -> None:
    assert set(TRANSITIONS) == set(State)


def test_terminal_states_have_no_way_out_but_a_redrive() -> None:
    assert sorted(TERMINAL) == ["cancelled", "dead", "expired", "succeeded"]
    assert {after for state in TERMINAL for after in TRANSITIONS[state]} == {State.QUEUED, State.SCHEDULED}
    assert {state for state in TERMINAL if TRANSITIONS[state]} == {State.DEAD}


@pytest.mark.parametrize("state", sorted(set(State) - TERMINAL))
def test_every_live_state_can_reach_an_end(state: State) -> None:
    reached = {state}
    for _ in State:
        reached |= {after for before in reached for after in TRANSITIONS[before]}
    assert reached & TERMINAL


@pytest.mark.parametrize(
    ("expires", "deadline", "start_by"), [(None, None, None), (5, None, 5), (None, 7, 7), (5, 7, 5), (7, 5, 5)]
)
def test_start_by_is_the_earlier_bound(expires: int | None, deadline: int | None, start_by: int | None) -> None:
    assert Spec(type="t", expires_ms=expires, deadline_ms=deadline).start_by_ms == start_by


def _task(state: State, *errors: ErrorInfo | None) -> Task:
    attempts = tuple(
        Attempt(n=n, worker_id="w", queued_ms=0, started_ms=1, finished_ms=2, outcome="failed", error=error)
        for n, error in enumerate(errors, 1)
    )
    return Task(id="a", spec=Spec(type="t"), state=state, created_ms=0, attempts=attempts)


def test_the_last_error_is_the_latest_there_is() -> None:
    first, second = ErrorInfo("A", "1"), ErrorInfo("B", "2")
    assert _task(State.DEAD).last_error is None
    assert _task(State.DEAD, None).last_error is None
    assert _task(State.DEAD, first, second).last_error == second
    assert _task(State.DEAD, first, second, None).last_error == second


@pytest.mark.parametrize("state", list(State))
def test_terminal(state: State) -> None:
    assert _task(state).terminal == (state in TERMINAL)


def test_values_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Spec(type="t").type = "u"  # type: ignore[misc]


def test_a_retry_policy_refuses_what_it_does_not_know() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"base_seconds": 1, "bse": 2}, RetryPolicy)
