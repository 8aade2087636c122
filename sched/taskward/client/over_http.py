"""Client: the blocking client over HTTP, with nothing but the standard library under it."""

import http.client
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, Unpack
from urllib.parse import quote

import msgspec
import uuid_utils

from taskward import errors
from taskward.address import connection_to
from taskward.client.fields import Item, Options, encode
from taskward.client.view import TaskView
from taskward.errors import BrokerUnavailable, InvalidTask, QueueFull, TaskwardError
from taskward.task import State, Submitted

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
MOST_PER_REQUEST = 512
LARGEST_REQUEST = 4_194_304
LONGEST_WAIT_SECONDS = 60
# What the API's problem types mean here; their last word.
ERRORS: Mapping[str, type[TaskwardError]] = {
    "unreadable-body": errors.UnreadableBody,
    "invalid": errors.InvalidTask,
    "too-large": errors.TaskTooLarge,
    "task-not-found": errors.TaskNotFound,
    "conflict": errors.Conflict,
    "invalid-transition": errors.InvalidTransition,
    "queue-full": errors.QueueFull,
    "memory-low": errors.MemoryLow,
    "unavailable": errors.BrokerUnavailable,
}


class Client:
    """Talks to one API over one kept-alive connection; not to be shared between threads.

    A request that got no answer, or 503, is repeated for `patience` seconds and then raises BrokerUnavailable. That is
    safe: a submission's id is chosen before the first try, so that the second finds the task of the first.
    """

    def __init__(self, url: str = "http://127.0.0.1:8080", *, token: str = "", patience: float = 10.0) -> None:
        self._connection, self._prefix = connection_to(url, seconds=LONGEST_WAIT_SECONDS + 15)
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._patience = patience

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back; the next call opens another."""
        self._connection.close()

    def submit(self, type: str, payload: Any = None, **options: Unpack[Options]) -> Submitted:
        """Raises InvalidTask, TaskTooLarge, Conflict, QueueFull and MemoryLow."""
        status, body = self._ask("POST", "/tasks", encode(_named(Item(type=type, payload=payload, **options))))
        return Submitted(msgspec.json.decode(body, type=_Named).id, status == 202)

    def submit_many(self, items: Sequence[Item]) -> list[Submitted | TaskwardError]:
        """One answer an item, an error in its place where it was not taken. Raises InvalidTask for what is no JSON."""
        answers: list[Submitted | TaskwardError] = []
        for batch in _batches([encode(_named(item)) for item in items]):
            _status, body = self._ask("POST", "/tasks/batch", batch)
            answers += map(_answer, msgspec.json.decode(body, type=_Batch).results)
        return answers

    def get(self, id: str) -> TaskView:
        """Raises TaskNotFound."""
        return msgspec.json.decode(self._ask("GET", f"/tasks/{quote(id, safe='')}")[1], type=TaskView)

    def wait(self, id: str, *, seconds: float) -> TaskView:
        """The task as soon as it is terminal, or else as it is after `seconds`. Raises TaskNotFound."""
        give_up = time.monotonic() + seconds
        while True:
            left = max(0.0, give_up - time.monotonic())
            path = f"/tasks/{quote(id, safe='')}?wait={min(left, LONGEST_WAIT_SECONDS):.3f}"
            task = msgspec.json.decode(self._ask("GET", path)[1], type=TaskView)
            if task.terminal or left <= LONGEST_WAIT_SECONDS:
                return task

    def cancel(self, id: str) -> State:
        """-> the state it is in now: `cancelling` while its worker stops it. Raises TaskNotFound."""
        return msgspec.json.decode(self._ask("POST", f"/tasks/{quote(id, safe='')}/cancel")[1], type=_Named).state

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        give_up = time.monotonic() + self._patience
        pause = 0.0  # a kept connection may have been closed while nobody used it: the first repetition is at once
        while True:
            try:
                return self._ask_once(method, path, body)
            except BrokerUnavailable:
                if time.monotonic() + pause > give_up:
                    raise
            time.sleep(pause)
            pause = min(2 * pause or FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)

    def _ask_once(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        try:
            self._connection.request(method, self._prefix + path, body=body, headers=self._headers)
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()
            raise BrokerUnavailable(f"the API did not answer: {exc!r}") from exc
        if response.status >= 400:
            raise _error(response.status, answer, response.headers.get("Retry-After", ""))
        return response.status, answer


class _Named(msgspec.Struct):
    id: str
    state: State = State.QUEUED


class _Problem(msgspec.Struct):
    title: str
    type: str = ""
    detail: str = ""
    pointer: str = ""


class _Result(msgspec.Struct):
    status: int
    id: str = ""
    problem: _Problem | None = None


class _Batch(msgspec.Struct):
    results: list[_Result]


def _named(item: Item) -> Item:
    return item if "id" in item else Item(**item, id=str(uuid_utils.uuid7()))


def _batches(items: Sequence[bytes]) -> Iterator[bytes]:
    """Arrays of at most so many items and, if they are more than one, so many bytes."""
    first = size = 0
    for n, item in enumerate(items):
        size += len(item) + 1
        if n > first and (n - first == MOST_PER_REQUEST or size > LARGEST_REQUEST):
            yield b"[" + b",".join(items[first:n]) + b"]"
            first, size = n, len(item) + 1
    if items:
        yield b"[" + b",".join(items[first:]) + b"]"


def _answer(result: _Result) -> Submitted | TaskwardError:
    if result.problem is not None:
        return _error_of(result.problem, retry_after="")
    return Submitted(result.id, result.status == 202)


def _error(status: int, body: bytes, retry_after: str) -> TaskwardError:
    try:
        return _error_of(msgspec.json.decode(body, type=_Problem), retry_after=retry_after)
    except ValueError:  # a proxy in between says it in its own way
        kind = BrokerUnavailable if status in (502, 503, 504) else TaskwardError
        return kind(f"HTTP {status}: {body[:200].decode(errors='replace')}")


def _error_of(problem: _Problem, *, retry_after: str) -> TaskwardError:
    kind = ERRORS.get(problem.type.rpartition("/")[2], TaskwardError)
    text = problem.detail or problem.title
    if kind is InvalidTask:
        return InvalidTask(text, pointer=problem.pointer)
    if issubclass(kind, QueueFull):
        return kind(text, retry_after=float(retry_after) if retry_after.isdecimal() else 1.0)
    return kind(text)
