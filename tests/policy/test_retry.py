"""decide and backoff: every outcome, every cause, with attempts left and without."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskward.policy.retry import (
    Bury,
    Cancel,
    Complete,
    Decision,
    Failed,
    Outcome,
    Release,
    RetryAsked,
    RetryIn,
    Stopped,
    Succeeded,
    backoff,
    decide,
)
from taskward.task import CancelCause, ErrorInfo, RetryPolicy

ERROR = ErrorInfo("ValueError", "no")
# 2 s after the first attempt, 4 after the second; the dice take a quarter off.
POLICY = RetryPolicy(base_seconds=2.0, max_seconds=100.0, multiplier=2.0, jitter=0.5)
DICE = 0.5


def _decide(outcome: Outcome, *, attempt: int = 1, max_attempts: int = 3) -> Decision:
    return decide(outcome, attempt=attempt, max_attempts=max_attempts, policy=POLICY, dice=DICE)


@pytest.mark.parametrize("attempt", [1, 3, 9])
def test_success_is_success_at_any_attempt(attempt: int) -> None:
    assert _decide(Succeeded(b"1"), attempt=attempt) == Complete(b"1")


def test_a_failure_is_tried_again_until_the_attempts_are_spent() -> None:
    failed = Failed(ERROR, "exception")
    assert _decide(failed, attempt=1) == RetryIn(1.5, "exception", ERROR)
    assert _decide(failed, attempt=2) == RetryIn(3.0, "exception", ERROR)
    assert _decide(failed, attempt=3) == Bury("exception", ERROR)
    assert _decide(failed, attempt=4) == Bury("exception", ERROR)


@pytest.mark.parametrize("reason", ["discarded", "invalid_payload", "undecodable"])
def test_what_cannot_succeed_is_not_tried_again(reason: str) -> None:
    assert _decide(Failed(ERROR, reason, retryable=False)) == Bury(reason, ERROR)


@pytest.mark.parametrize(
    ("age", "pause"), [(0.0, 1.0), (1.0, 2.0), (3.0, 4.0), (59.0, 60.0), (300.0, 60.0), (600.0, 60.0)]
)
def test_a_type_nobody_knows_waits_for_ten_minutes_and_costs_no_attempt(age: float, pause: float) -> None:
    unknown = Failed(ERROR, "unknown_type")
    made = decide(unknown, attempt=3, max_attempts=3, policy=POLICY, dice=DICE, age=age)
    assert made == RetryIn(pause, "unknown_type", ERROR, counted=False)
    assert decide(unknown, attempt=1, max_attempts=3, policy=POLICY, dice=DICE, age=601.0) == Bury(
        "unknown_type", ERROR
    )


def test_a_handler_may_ask_for_a_delay() -> None:
    assert _decide(RetryAsked(7.0, ERROR)) == RetryIn(7.0, "asked", ERROR)
    assert _decide(RetryAsked(0.0, ERROR)) == RetryIn(0.0, "asked", ERROR)
    assert _decide(RetryAsked(None, ERROR), attempt=2) == RetryIn(3.0, "asked", ERROR)
    assert _decide(RetryAsked(7.0, ERROR), attempt=3) == Bury("exception", ERROR)


@pytest.mark.parametrize("after", [math.inf, math.nan, 1e300, -5.0])
def test_a_delay_that_is_no_length_of_time_is_not_passed_on(after: float) -> None:
    decision = _decide(RetryAsked(after, ERROR))
    assert isinstance(decision, Bury) or (isinstance(decision, RetryIn) and 0 <= decision.seconds < 1e9)


@pytest.mark.parametrize("cause", [CancelCause.USER, CancelCause.DEADLINE])
@pytest.mark.parametrize("attempt", [1, 3])
def test_a_user_and_a_deadline_are_final(cause: CancelCause, attempt: int) -> None:
    assert _decide(Stopped(cause), attempt=attempt) == Cancel(cause)


@pytest.mark.parametrize("cause", [CancelCause.SHUTDOWN, CancelCause.LEASE_LOST])
@pytest.mark.parametrize("attempt", [1, 3])
def test_a_shutdown_and_a_lost_lease_cost_nothing(cause: CancelCause, attempt: int) -> None:
    assert _decide(Stopped(cause), attempt=attempt) == Release(cause)


def test_a_timeout_is_a_failure() -> None:
    again = _decide(Stopped(CancelCause.TIMEOUT), attempt=2)
    assert isinstance(again, RetryIn)
    assert (again.seconds, again.reason, again.error and again.error.type) == (3.0, "timeout", "Timeout")
    spent = _decide(Stopped(CancelCause.TIMEOUT), attempt=3)
    assert isinstance(spent, Bury)
    assert (spent.reason, spent.error and spent.error.type) == ("timeout", "Timeout")


def test_every_cause_has_a_rule() -> None:
    for cause in CancelCause:
        assert isinstance(_decide(Stopped(cause)), Cancel | RetryIn | Release)


def test_one_attempt_means_no_retry() -> None:
    assert _decide(Failed(ERROR), attempt=1, max_attempts=1) == Bury("exception", ERROR)


def test_backoff_doubles_up_to_its_ceiling() -> None:
    policy = RetryPolicy(base_seconds=1.0, max_seconds=10.0, multiplier=2.0, jitter=0.0)
    assert [backoff(policy, n, dice=0.9) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]


def test_jitter_is_the_share_that_the_dice_may_take() -> None:
    policy = RetryPolicy(base_seconds=8.0, jitter=0.25)
    assert backoff(policy, 1, dice=0.0) == 8.0
    assert backoff(policy, 1, dice=1.0) == 6.0
    assert backoff(RetryPolicy(base_seconds=8.0), 1, dice=0.75) == 2.0


# What a submission or a handler may name (submission.py).
POLICIES = st.builds(
    RetryPolicy,
    base_seconds=st.floats(0, 86_400),
    max_seconds=st.floats(0, 604_800),
    multiplier=st.floats(1, 100),
    jitter=st.floats(0, 1),
)


@given(POLICIES, st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_a_length_of_time_within_its_bounds(policy: RetryPolicy, attempt: int, dice: float) -> None:
    seconds = backoff(policy, attempt, dice=dice)
    assert math.isfinite(seconds)
    assert 0 <= seconds <= policy.max_seconds


@given(POLICIES, st.integers(1, 1000))
def test_backoff_never_shrinks(policy: RetryPolicy, attempt: int) -> None:
    assert backoff(policy, attempt, dice=0.5) <= backoff(policy, attempt + 1, dice=0.5)


def test_a_multiplier_beyond_all_bounds_is_the_longest_wait() -> None:
    policy = RetryPolicy(base_seconds=1.0, max_seconds=600.0, multiplier=1e10)
    assert backoff(policy, 100, dice=0.0) == 600.0
