"""The model's books: what it knows of each task, of the queue, and how the store must look."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskward.broker.broker import Terms
from taskward.codec import Record
from taskward.task import State
from tests.support.store import Contents
from tests.support.store import spec as spec_text

FAMILIES = ("ready", "scheduled", "retry", "dead")
ENDS = {"S": State.SUCCEEDED, "C": State.CANCELLED, "E": State.EXPIRED}
STATES = {"ready": State.QUEUED, "scheduled": State.SCHEDULED, "retry": State.RETRYING, "dead": State.DEAD}
WAKE_LIMIT = 64
NEVER_RAN = Record(
    state="",
    token=0,
    finished_ms=None,
    cause=None,
    priority="",
    attempt=0,
    worker="",
    queued_us=0,
    started_ms=None,
    reaps=0,
)


@dataclass
class Held:
    """One task. `place` and `score` are where it is, and what orders it there."""

    id: str
    json: str
    created: int
    due: int | str
    start_by: int | None
    priority: str
    place: str
    score: int
    record: Record | None = None
    result: str | None = None
    history: str = ""
    progress: str | None = None
    cancel: str | None = None

    @property
    def cause(self) -> str | None:
        """Why it is to be cancelled; `cancel` has when that was asked for as well, as the store has it."""
        return self.cancel.partition(" ")[0] if self.cancel else None

    @property
    def cancelled_ms(self) -> int | None:
        return int(self.cancel.partition(" ")[2]) if self.cancel else None

    @property
    def state(self) -> State:
        """As a reader sees it."""
        if self.place == "running":
            return State.CANCELLING if self.cancel else State.RUNNING
        if self.place == "done":
            assert self.record is not None
            return ENDS[self.record.state]
        return STATES[self.place]

    def moved(self, place: str, score: int, **changed: Any) -> None:
        """To another place, with these fields of its record changed."""
        self.place, self.score = place, score
        if changed:
            self.record = (self.record or NEVER_RAN)._replace(**changed)


@dataclass(frozen=True)
class Claimed:
    """One claim's answer for one task."""

    id: str
    token: int
    attempt: int
    queued_us: int


@dataclass(frozen=True)
class Stepped:
    """What a step answers."""

    verdicts: str
    claims: tuple[Claimed, ...]
    expired: int
    wait: float | None


@dataclass
class Books:
    """One queue."""

    priorities: Sequence[str]
    terms: Terms
    now_us: int
    tasks: dict[str, Held] = field(default_factory=dict)
    keys: dict[str, tuple[str, int]] = field(default_factory=dict)
    fence: int = 0
    claims: dict[str, tuple[int, tuple[tuple[str, int], ...]]] = field(default_factory=dict)
    wake: int = 0
    reaped_ms: int = 0
    held_back_until_ms: int = 0
    workers: dict[str, str] = field(default_factory=dict)
    workers_seen: dict[str, int] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)

    @property
    def now_ms(self) -> int:
        return self.now_us // 1000

    def at(self, place: str, priority: str | None = None) -> list[Held]:
        """The tasks of a place, in its order."""
        return _in_order(t for t in self.tasks.values() if t.place == place and priority in (None, t.priority))

    def waiting(self) -> int:
        return sum(task.place in ("ready", "scheduled", "retry") for task in self.tasks.values())

    def holding(self, id: str, token: int) -> Held | None:
        task = self.tasks.get(id)
        running = task is not None and task.record is not None and task.record.state == "R"
        return task if running and task and task.record and task.record.token == token else None

    def push_wake(self, n: int) -> None:
        self.wake = max(self.wake, min(self.wake + n, WAKE_LIMIT))

    def contents(self) -> Contents:
        """What Store.read must give."""
        found = _of_tasks(list(self.tasks.values()), self.priorities) | {
            "idempotency": {key: id for key, (id, _) in self.keys.items()},
            "idempotency_expiry": {key: until for key, (_, until) in self.keys.items()},
            "fence": str(self.fence) if self.fence else "",
            "claims": _of_claims(self.claims),
            "wake": ["1"] * self.wake,
            "reaping": f"{self.reaped_ms} {self.held_back_until_ms}" if self.reaped_ms else "",
            "workers": self.workers,
            "workers_seen": self.workers_seen,
            "paused": self.paused,
        }
        return {name: value for name, value in found.items() if value}


def _in_order(tasks: Iterable[Held]) -> list[Held]:
    """As a zset orders them."""
    return sorted(tasks, key=lambda task: (task.score, task.id.encode()))


def _of_tasks(tasks: Sequence[Held], priorities: Sequence[str]) -> Contents:
    """The keys that hold tasks."""
    found: Contents = {
        "spec": {t.id: spec_text(t.json, created=t.created, due=t.due, start_by=_text(t.start_by)) for t in tasks},
        "record": {t.id: "|".join(map(_text, t.record)) for t in tasks if t.record and t.place != "done"},
        "ended": {t.id: "|".join(map(_text, t.record)) for t in tasks if t.record and t.place == "done"},
        "result": {t.id: t.result for t in tasks if t.result is not None},
        "history": {t.id: t.history for t in tasks if t.history},
        "progress": {t.id: t.progress for t in tasks if t.progress is not None},
        "cancel": {t.id: t.cancel for t in tasks if t.cancel is not None},
        "running": {t.id: t.score for t in tasks if t.place == "running"},
        "done": {t.id: t.score for t in tasks if t.place == "done"},
    }
    for name in FAMILIES:
        for priority in priorities:
            there = [t for t in tasks if (t.place, t.priority) == (name, priority)]
            found[f"{name}:{priority}"] = {t.id: t.score for t in there}
    return found


def _of_claims(claims: Mapping[str, tuple[int, Sequence[tuple[str, int]]]]) -> dict[str, str]:
    """What each worker's last claim was, as text."""
    return {
        worker: " ".join([str(number), *(str(token - 1) for _, token in granted[:1]), *(id for id, _ in granted)])
        for worker, (number, granted) in claims.items()
    }


def _text(value: object) -> str:
    return "" if value is None else str(value)
