"""What applies to an attempt, what is decided about its task at the end, and how that is written down."""

from typing import NamedTuple

from taskward import codec
from taskward.app import App, Handler
from taskward.broker.messages import Settlement
from taskward.config import Config
from taskward.policy.retry import Complete, Decision, Outcome, Release, Stopped, Succeeded, decide
from taskward.task import Attempt, CancelCause, Lease, RetryPolicy, Spec
from taskward.worker.running import Running


class Defaults(NamedTuple):
    """What applies where neither the task nor its handler says."""

    timeout: float
    max_attempts: int
    retry: RetryPolicy

    @classmethod
    def of(cls, config: Config) -> "Defaults":
        """From the settings. Seconds."""
        retry = RetryPolicy(base_seconds=config.retry_base_ms / 1000, max_seconds=config.retry_max_ms / 1000)
        return cls(config.task_timeout_ms / 1000, config.max_attempts, retry)

    def timeout_of(self, spec: Spec, handler: Handler | None) -> float:
        """Seconds one attempt may take."""
        if spec.timeout_ms is not None:
            return spec.timeout_ms / 1000
        if handler is not None and handler.timeout_seconds is not None:
            return handler.timeout_seconds
        return self.timeout


def running_of(lease: Lease, app: App, defaults: Defaults, *, claimed: float) -> Running:
    """A task claimed at that moment, with the handler and the time it has."""
    spec, handler = lease.spec, app.handlers.get(lease.spec.type)
    timeout = defaults.timeout_of(spec, handler)
    return Running(lease, handler, label=app.label(spec.type), timeout=timeout, claimed=claimed)


def decision_of(running: Running, outcome: Outcome, defaults: Defaults, *, dice: float) -> Decision:
    """A task's own limits come before its handler's, and those before the defaults. `dice` as in `decide`."""
    spec, handler = running.lease.spec, running.handler
    return decide(
        outcome,
        attempt=running.lease.attempt,
        max_attempts=spec.max_attempts or (handler and handler.max_attempts) or defaults.max_attempts,
        policy=spec.retry or (handler and handler.retry) or defaults.retry,
        dice=dice,
        age=_age(running.lease) if handler is None else 0.0,
    )


def _age(lease: Lease) -> float:
    """Seconds from when the task was due to when it was last queued."""
    return max(0.0, lease.queued_us / 1000 - lease.due_ms) / 1000


def settlement_of(running: Running, outcome: Outcome, decision: Decision, worker_id: str) -> Settlement:
    """With a line for the history; a plain success needs none, because its record says it all."""
    if isinstance(decision, Complete) and not running.cancelling:
        return Settlement(running.lease, decision)
    return Settlement(running.lease, decision, _history_line(running, worker_id, outcome, decision))


def _history_line(running: Running, worker_id: str, outcome: Outcome, decision: Decision) -> bytes:
    started_ms = running.lease.started_us // 1000 + round((running.began - running.claimed) * 1000)
    finished_ms = started_ms + round(running.seconds * 1000)
    return codec.encode_attempt(
        Attempt(
            n=running.lease.attempt,
            worker_id=worker_id,
            queued_ms=running.lease.queued_us // 1000,
            started_ms=started_ms,
            finished_ms=finished_ms,
            outcome="released" if isinstance(decision, Release) else _word(outcome),
            error=getattr(decision, "error", None),
            cancel_cause=outcome.cause if isinstance(outcome, Stopped) else None,
            cancelled_ms=finished_ms - round(running.cancelling * 1000) if running.cancelling else None,
        )
    )


def _word(outcome: Outcome) -> str:
    match outcome:
        case Succeeded():
            return "succeeded"
        case Stopped(cause) if cause is not CancelCause.TIMEOUT:
            return "cancelled"
        case _:
            return "failed"
