"""One task of the model, what the verbs answer, and how the whole looks in the store."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskward.codec import Record
from taskward.task import State
from tests.support.store import Contents
from tests.support.store import spec as spec_text

FAMILIES = ("ready", "scheduled", "retry", "dead")
ENDS = {"S": State.SUCCEEDED, "C": State.CANCELLED, "E": State.EXPIRED}
STATES = {"ready": State.QUEUED, "scheduled": State.SCHEDULED, "retry": State.RETRYING, "dead": State.DEAD}
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


def in_order(tasks: Iterable[Held]) -> list[Held]:
    """As a zset orders them."""
    return sorted(tasks, key=lambda task: (task.score, task.id.encode()))


def of_tasks(tasks: Sequence[Held], priorities: Sequence[str]) -> Contents:
    """The keys that hold tasks."""
    found: Contents = {
        "spec": {t.id: spec_text(t.json, created=t.created, due=t.due, start_by=_text(t.start_by)) for t in tasks},
        "record": {t.id: "|".join(map(_text, t.record)) for t in tasks if t.record},
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


def of_claims(claims: Mapping[str, tuple[int, Iterable[tuple[str, int]]]]) -> dict[str, str]:
    """What each worker's last claim was, as text."""
    return {
        worker: " ".join([str(number), *(f"{id} {token}" for id, token in granted)])
        for worker, (number, granted) in claims.items()
    }


def _text(value: object) -> str:
    return "" if value is None else str(value)
