"""What to do with an attempt that has ended: pure decisions, the dice are handed in."""

from typing import assert_never

import msgspec

from taskward.task import CancelCause, ErrorInfo, RetryPolicy

# What a handler or its policy may ask for at most, in seconds: a year.
LONGEST_WAIT = 31_536_000.0
# For so long after it was due a task of a type that nobody knows waits for a worker that does: a rollout takes minutes.
UNKNOWN_TYPE_SECONDS = 600.0
UNKNOWN_TYPE_PAUSE = 60.0


class Succeeded(msgspec.Struct, frozen=True):
    """The handler returned; `result` is its value as JSON bytes."""

    result: bytes


class Failed(msgspec.Struct, frozen=True):
    """The handler raised. `reason` is a short fixed word for metrics; `retryable` False means never again."""

    error: ErrorInfo
    reason: str = "exception"
    retryable: bool = True


class RetryAsked(msgspec.Struct, frozen=True):
    """The handler said Retry; None leaves the delay to the policy."""

    after: float | None
    error: ErrorInfo


class Stopped(msgspec.Struct, frozen=True):
    """The attempt's scope was cancelled and has exited."""

    cause: CancelCause


Outcome = Succeeded | Failed | RetryAsked | Stopped


class Complete(msgspec.Struct, frozen=True):
    """Keep the result; the task has succeeded."""

    result: bytes


class RetryIn(msgspec.Struct, frozen=True):
    """Wait in the retry set for so many seconds. `reason`: exception, timeout, invalid_result, unknown_type or asked.
    Where the attempt is not `counted`, it is as if there had been none.
    """

    seconds: float
    reason: str
    error: ErrorInfo | None = None
    counted: bool = True


class Bury(msgspec.Struct, frozen=True):
    """Give up: to the DLQ. `reason`: exception, timeout, discarded, invalid_payload, invalid_result, unknown_type or
    undecodable.
    """

    reason: str
    error: ErrorInfo | None = None


class Cancel(msgspec.Struct, frozen=True):
    """End as cancelled, for this cause."""

    cause: CancelCause


class Release(msgspec.Struct, frozen=True):
    """Give the task back unharmed at the head of its queue; the attempt does not count."""

    cause: CancelCause


Decision = Complete | RetryIn | Bury | Cancel | Release


def backoff(policy: RetryPolicy, attempt: int, *, dice: float) -> float:
    """Seconds to wait after `attempt` (1 = the first) failed; `dice` is uniform in [0, 1).

    Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015) where policy.jitter is 1.
    """
    try:
        ceiling = min(policy.max_seconds, policy.base_seconds * policy.multiplier ** min(attempt - 1, 64))
    except OverflowError:  # a handler's own policy may have any multiplier
        ceiling = policy.max_seconds
    return min(ceiling, LONGEST_WAIT) * (1.0 - policy.jitter * dice)


def decide(
    outcome: Outcome, *, attempt: int, max_attempts: int, policy: RetryPolicy, dice: float, age: float = 0.0
) -> Decision:
    """The one place that says how a task goes on. `age`: of a type nobody knows, the seconds from when it was
    due to when it was last queued.
    """
    spent = attempt >= max_attempts
    match outcome:
        case Succeeded(result):
            return Complete(result)
        case Failed(error, "unknown_type"):
            return _unknown(error, age)
        case Failed(error, reason, retryable):
            if spent or not retryable:
                return Bury(reason, error)
            return RetryIn(backoff(policy, attempt, dice=dice), reason, error)
        case RetryAsked(after, error):
            if spent:
                return Bury("exception", error)
            return RetryIn(backoff(policy, attempt, dice=dice) if after is None else _bounded(after), "asked", error)
        case Stopped(cause):
            return _after_stop(cause, spent=spent, delay=backoff(policy, attempt, dice=dice))
        case _:
            assert_never(outcome)


def _unknown(error: ErrorInfo, age: float) -> Decision:
    """Not the task's fault: another worker may know its type, or this one soon."""
    if age > UNKNOWN_TYPE_SECONDS:
        return Bury("unknown_type", error)
    return RetryIn(min(1.0 + age, UNKNOWN_TYPE_PAUSE), "unknown_type", error, counted=False)


def _bounded(seconds: float) -> float:
    """A handler's word, as a length of time: no less than nothing, no more than LONGEST_WAIT."""
    return min(max(seconds, 0.0), LONGEST_WAIT) if seconds == seconds else 0.0


def _after_stop(cause: CancelCause, *, spent: bool, delay: float) -> Decision:
    match cause:
        case CancelCause.USER | CancelCause.DEADLINE:
            return Cancel(cause)
        case CancelCause.TIMEOUT:
            error = ErrorInfo("Timeout", "the attempt ran longer than timeout_seconds")
            return Bury("timeout", error) if spent else RetryIn(delay, "timeout", error)
        case CancelCause.SHUTDOWN | CancelCause.LEASE_LOST:
            return Release(cause)
        case _:
            assert_never(cause)
