"""Values that the tests of telemetry begin with."""

from itertools import pairwise
from typing import Any

from taskward.events import PrioritySample, QueueSampled, TaskSettled, TaskStarted
from taskward.policy.retry import Complete, Decision, Failed, Outcome, Succeeded
from taskward.task import ErrorInfo, Lease, Spec
from taskward.telemetry.instruments import INSTRUMENTS, Role
from taskward.telemetry.metrics import Metrics

PRIORITIES = ("high", "default", "low")
TYPES = ("echo", "email.send")
SECRET = "the payload, which is nobody's business"
TRACEBACK = f"""Traceback (most recent call last):
  File "/shop/tasks.py", line 7, in send
    post(letter)
  File "/shop/post.py", line 12, in post
    raise ValueError({SECRET!r})
ValueError: {SECRET}
"""
ERROR = ErrorInfo("ValueError", SECRET, TRACEBACK)
FAILED = Failed(ERROR)


def metrics(role: Role = "worker", **kwargs: Any) -> Metrics:
    given = {"priorities": PRIORITIES, "types": TYPES, "instance_id": "host:1", "version": "1.2.3"}
    return Metrics(role, **(given | kwargs))


def lease(type_: str = "echo", *, token: int = 7, attempt: int = 1, priority: str = "default", **spec: Any) -> Lease:
    return Lease(
        id=f"task-{token}",
        spec=Spec(type=type_, payload=SECRET, priority=priority, **spec),
        token=token,
        attempt=attempt,
        queued_us=1_000_000,
        started_us=1_250_000,
        held_until=30.0,
        created_ms=600,
    )


def started(held: Lease | None = None, *, waited: float = 0.2) -> TaskStarted:
    held = held or lease()
    return TaskStarted(held, held.spec.type, waited)


def settled(
    outcome: Outcome | None = None,
    decision: Decision | None = None,
    *,
    held: Lease | None = None,
    seconds: float = 0.3,
    span: object = None,
) -> TaskSettled:
    held = held or lease()
    return TaskSettled(held, held.spec.type, outcome or Succeeded(b"1"), decision or Complete(b"1"), seconds, span)


def sample(*, queued: int = 3, oldest: float | None = 1.5, at_ms: int = 1_700_000_000_000) -> QueueSampled:
    depths = tuple(
        PrioritySample(p, queued=queued, scheduled=1, retrying=2, dead=4, oldest_queued_age=oldest, retry_overdue=None)
        for p in PRIORITIES
    )
    return QueueSampled(depths, running=5, cancelling=1, finished=6, workers=2, memory=0.25, at_ms=at_ms, took=0.004)


def value(given: Metrics, name: str, *labels: str) -> float | None:
    """One series of a counter or gauge, as a scrape shows it; None where it is absent."""
    return given.registry.get_sample_value(name, dict(zip(instrument(name).labels, labels, strict=True)))


def buckets(given: Metrics, name: str, *labels: str) -> list[float]:
    """How many values one series of a histogram has in each bucket, the last of them above every bound."""
    known = dict(zip(instrument(name).labels, labels, strict=True))
    (family,) = [family for family in given.registry.collect() if family.name == name]
    up_to = [s.value for s in family.samples if s.name == f"{name}_bucket" and s.labels.items() >= known.items()]
    return [n - before for before, n in pairwise([0.0, *up_to])]


def instrument(name: str) -> Any:
    return next(i for i in INSTRUMENTS if i.name == name)


class StillClock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
