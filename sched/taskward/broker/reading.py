"""Reading tasks back: one, several, or a page of a listing."""

import base64
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from taskward import codec
from taskward.broker.broker import Broker
from taskward.broker.keys import FAMILIES
from taskward.errors import DecodeError, InvalidTask
from taskward.task import TERMINAL, Attempt, State, Task

_PLACES = {
    State.RUNNING: "running",
    State.CANCELLING: "running",
    State.QUEUED: "ready",
    State.SCHEDULED: "scheduled",
    State.RETRYING: "retry",
    State.DEAD: "dead",
    State.SUCCEEDED: "done",
    State.CANCELLED: "done",
    State.EXPIRED: "done",
}
_WAITING = {place: state for state, place in _PLACES.items() if place in FAMILIES}
# Where things have ended, one looks for what just did.
_NEWEST_FIRST = frozenset({"dead", "done"})
# A page with a filter that matches little ends early rather than read the whole store.
MOST_READ_PER_PAGE = 2000
READ_AT_ONCE = 200
# As Redis writes a score; Python's float reads more than Redis does.
_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?")


class Filter(NamedTuple):
    """Which tasks a listing shows; None shows all."""

    state: State | None = None
    type: str | None = None
    priority: str | None = None
    tag: str | None = None

    @property
    def is_choosy(self) -> bool:
        """Whether the places that are read hold others as well."""
        mixed = self.state is not None and list(_PLACES.values()).count(_PLACES[self.state]) > 1
        return mixed or (self.type, self.priority, self.tag) != (None, None, None)

    def shows(self, task: Task) -> bool:
        """Whether the task is one of them."""
        return (
            self.state in (None, task.state)
            and self.type in (None, task.spec.type)
            and self.priority in (None, task.spec.priority)
            and (self.tag is None or self.tag in (task.spec.tags or ()))
        )


class Page(NamedTuple):
    """Tasks, and the token that asks for the next ones; None at the end."""

    tasks: list[Task]
    next_token: str | None


class _Cursor(msgspec.Struct, array_like=True, frozen=True):
    place: int = 0
    id: str = ""
    score: str = ""


async def get(broker: Broker, ids: Sequence[str]) -> list[Task | None]:
    """Each task in full, None for an unknown id. Raises DecodeError where the stored bytes of one are not a task."""
    tasks: list[Task | None] = []
    for found in await each(broker, ids):
        if isinstance(found, DecodeError):
            raise found
        tasks.append(found)
    return tasks


async def each(broker: Broker, ids: Sequence[str]) -> list[Task | DecodeError | None]:
    """The same, with the error in the place of a task that cannot be read."""
    reply = await broker.call("get", list(ids))
    return [_assemble_or_error(id, reply[8 * n : 8 * n + 8]) for n, id in enumerate(ids)]


async def page(broker: Broker, wanted: Filter, *, size: int, token: str | None, oldest_first: bool = False) -> Page:
    """The next `size` tasks at most, place by place, and a token for what follows, which belongs to this order.

    In a place what comes next is first; of tasks that are dead or done those that became it last, unless
    `oldest_first`. A page can hold fewer than `size` and still have a next token. Raises InvalidTask for a token that
    is none.
    """
    places = _places(wanted, broker.priorities)
    cursor = _decode_token(token, most=len(places))
    found: list[Task] = []
    read = 0
    while cursor.place < len(places) and len(found) < size and read < MOST_READ_PER_PAGE:
        place, p = places[cursor.place]
        order = "newest" if place in _NEWEST_FIRST and not oldest_first else ""
        at_once = READ_AT_ONCE if wanted.is_choosy else min(READ_AT_ONCE, size - len(found))
        reply = await broker.call("list", [place, p, at_once, cursor.id, cursor.score, order])
        entries = [(reply[at].decode(), reply[at + 1].decode()) for at in range(0, len(reply), 2)]
        read += len(entries)
        tasks = await each(broker, [id for id, _ in entries]) if entries else []
        for (id, score), task in zip(entries, tasks, strict=True):
            cursor = _Cursor(cursor.place, id, score)
            # One that cannot be read is not hidden by this: its worker buries it, and the log says so.
            if isinstance(task, Task) and wanted.shows(task):
                found.append(task)
                if len(found) == size:
                    return Page(found, _encode_token(cursor))
        if len(entries) < at_once:
            cursor = _Cursor(cursor.place + 1)
    return Page(found, _encode_token(cursor) if cursor.place < len(places) else None)


def _places(wanted: Filter, priorities: Sequence[str]) -> list[tuple[str, int]]:
    names = dict.fromkeys(_PLACES.values()) if wanted.state is None else (_PLACES[wanted.state],)
    chosen = [n for n, name in enumerate(priorities, 1) if wanted.priority in (None, name)]
    return [(name, p) for name in names for p in (chosen if name in FAMILIES else [0])]


def _encode_token(cursor: _Cursor) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode()


def _decode_token(token: str | None, *, most: int) -> _Cursor:
    if not token:
        return _Cursor()
    try:
        cursor = msgspec.json.decode(base64.urlsafe_b64decode(token), type=_Cursor)
    except ValueError:
        raise InvalidTask("this is not a page token", pointer="/page_token") from None
    if not 0 <= cursor.place < most or (cursor.id and not _is_score(cursor.score)):
        raise InvalidTask("this page token belongs to another listing", pointer="/page_token")
    return cursor


def _is_score(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None and math.isfinite(float(text))


def _assemble_or_error(id: str, parts: Sequence[bytes]) -> Task | DecodeError | None:
    try:
        return _assemble(id, parts)
    except DecodeError as exc:
        return exc


def _assemble(id: str, parts: Sequence[bytes]) -> Task | None:
    stored, place_bytes, score, record_text, result, history, progress, cancel = parts
    if not stored:
        return None
    place = place_bytes.decode()
    head = codec.decode_head(stored)
    record = codec.decode_record(record_text) if record_text else None
    cause, cancelled_ms = codec.decode_cancel(cancel) if cancel else (None, None)
    state = _state(place, record, cancelling=cause is not None)
    queued_ms = None
    if place == "ready":
        queued_ms = int(float(score)) // 1000
    elif record is not None:
        queued_ms = record.queued_us // 1000
    running = place == "running"
    return Task(
        id=id,
        spec=codec.decode_spec(stored),
        state=state,
        created_ms=head.created_ms,
        run_at_ms=int(float(score)) if place in ("scheduled", "retry") else head.due_ms,
        queued_ms=queued_ms,
        started_ms=record.started_ms if record else None,
        finished_ms=record.finished_ms if record and state in TERMINAL else None,
        lease_expires_ms=int(float(score)) if running else None,
        attempt=record.attempt if record else 0,
        reaps=record.reaps if record else 0,
        token=record.token or None if record else None,
        worker_id=record.worker or None if record else None,
        cancel_cause=cause or (record.cause if record else None),
        cancelled_ms=cancelled_ms,
        result=codec.decode_value(result) if result else None,
        attempts=_attempts(codec.decode_history(history), state, record),
        progress=codec.decode_progress(progress) if progress else None,
    )


def _attempts(history: tuple[Attempt, ...], state: State, record: codec.Record | None) -> tuple[Attempt, ...]:
    """An attempt that succeeded without being asked to stop has no line in the history: its record says it all."""
    if state is not State.SUCCEEDED or record is None or record.started_ms is None or record.finished_ms is None:
        return history
    if history and history[-1].outcome == "succeeded":
        return history
    return (
        *history,
        Attempt(
            n=record.attempt,
            worker_id=record.worker,
            queued_ms=record.queued_us // 1000,
            started_ms=record.started_ms,
            finished_ms=record.finished_ms,
            outcome="succeeded",
        ),
    )


def _state(place: str, record: codec.Record | None, *, cancelling: bool) -> State:
    if place == "running":
        return State.CANCELLING if cancelling else State.RUNNING
    if place == "done" and record is not None:
        return codec.ENDS[record.state]
    return _WAITING.get(place, State.QUEUED)
