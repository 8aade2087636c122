"""Client: the blocking client over HTTP, with nothing but the standard library under it."""

import http.client
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar, Unpack
from urllib.parse import quote

import msgspec
import uuid_utils

from taskward import errors
from taskward.address import bearer, connection_to
from taskward.client.fields import Item, Options, encode
from taskward.client.view import TaskView
from taskward.errors import BrokerUnavailable, InvalidTask, QueueFull, TaskTooLarge, TaskwardError, UnreadableBody
from taskward.task import State, Submitted

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
MOST_PER_REQUEST = 512
LARGEST_REQUEST = 4_194_304
LONGEST_WAIT_SECONDS = 60
# Before the next look at a task, where the API answered before the task's end and before its time: it stops.
EARLY_PAUSE_SECONDS = 0.2
# What the API's problem types mean here; their last word.
ERRORS: Mapping[str, type[TaskwardError]] = {
    "unreadable-body": UnreadableBody,
    "invalid": InvalidTask,
    "too-large": TaskTooLarge,
    "task-not-found": errors.TaskNotFound,
    "conflict": errors.Conflict,
    "invalid-transition": errors.InvalidTransition,
    "queue-full": QueueFull,
    "memory-low": errors.MemoryLow,
    "unavailable": BrokerUnavailable,
}

Value = TypeVar("Value")


class Client:
    """Talks to one API over one kept-alive connection; not to be shared between threads. After a fork each process has
    a connection of its own.

    A request that got no answer, or 503, is repeated for `patience` seconds and then raises BrokerUnavailable. That is
    safe: a submission's id is chosen before the first try, so that the second finds the task of the first.
    """

    def __init__(self, url: str = "http://127.0.0.1:8080", *, token: str = "", patience: float = 10.0) -> None:
        self._connection, self._prefix = connection_to(url, seconds=LONGEST_WAIT_SECONDS + 15)
        login = {"Authorization": f"Bearer {bearer(token)}"} if token.strip() else {}
        self._headers = {"Content-Type": "application/json"} | login
        self._patience = patience
        self._pid = os.getpid()

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
        return Submitted(_decoded(body, _Named).id, status == 202)

    def submit_many(self, items: Sequence[Item]) -> list[Submitted | TaskwardError]:
        """One answer an item, an error in its place where it was not taken. Raises InvalidTask for what is no JSON.

        What ends it is raised where nothing was stored; later it is the answer of all the rest.
        """
        answers: list[Submitted | TaskwardError] = []
        parts = deque(_parts([encode(_named(item)) for item in items]))
        while parts:
            part = parts.popleft()
            try:
                answers += self._submit_part(part)
            except (UnreadableBody, TaskTooLarge) as exc:  # because of some of them; none was stored
                if len(part) == 1:
                    answers.append(exc)
                else:
                    parts.extendleft((part[len(part) // 2 :], part[: len(part) // 2]))
            except TaskwardError as exc:
                if not any(isinstance(answer, Submitted) for answer in answers):
                    raise
                return answers + [exc] * (len(items) - len(answers))
        return answers

    def get(self, id: str) -> TaskView:
        """Raises TaskNotFound."""
        return _decoded(self._ask("GET", _path(id))[1], TaskView)

    def wait(self, id: str, *, seconds: float) -> TaskView:
        """The task as soon as it is terminal, or else as it is after `seconds`. Raises TaskNotFound."""
        give_up = time.monotonic() + seconds
        while True:
            task, early = self._patiently(lambda: self._look(id, give_up))
            if task.terminal or time.monotonic() >= give_up:
                return task
            time.sleep(min(early, EARLY_PAUSE_SECONDS))

    def cancel(self, id: str) -> State:
        """-> the state it is in now: `cancelling` while its worker stops it. Raises TaskNotFound."""
        return _decoded(self._ask("POST", f"{_path(id)}/cancel")[1], _StateOf).state

    def _submit_part(self, part: Sequence[bytes]) -> list[Submitted | TaskwardError]:
        _status, body = self._ask("POST", "/tasks/batch", b"[" + b",".join(part) + b"]")
        results = _decoded(body, _Batch).results
        if len(results) != len(part):
            raise TaskwardError(f"the API answers {len(results)} of {len(part)} tasks")
        return [_answer(result) for result in results]

    def _look(self, id: str, give_up: float) -> tuple[TaskView, float]:
        """-> the task, and how many seconds before the time that was asked for the answer came."""
        until = min(give_up, time.monotonic() + LONGEST_WAIT_SECONDS)
        path = f"{_path(id)}?wait={max(0.0, until - time.monotonic()):.3f}"
        _status, body = self._ask_once("GET", path, None)
        return _decoded(body, TaskView), max(0.0, until - time.monotonic())

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        return self._patiently(lambda: self._ask_once(method, path, body))

    def _patiently(self, ask: Callable[[], Value]) -> Value:
        """The patience begins with the first failure: a wait may have gone on for long before."""
        give_up = None
        pause = 0.0  # a kept connection may have been closed while nobody used it: the first repetition is at once
        while True:
            try:
                return ask()
            except BrokerUnavailable:
                give_up = give_up or time.monotonic() + self._patience
                if time.monotonic() + pause > give_up:
                    raise
            time.sleep(pause)
            pause = min(2 * pause or FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)

    def _ask_once(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        if self._pid != os.getpid():  # the socket is the parent's too: this closes it here alone
            self._connection.close()
            self._pid = os.getpid()
        try:
            self._connection.request(method, self._prefix + path, body=body, headers=self._headers)
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()
            raise BrokerUnavailable(f"the API did not answer: {exc!r}") from exc
        if response.status >= 300:
            raise _error(response.status, answer, response.headers.get("Retry-After", ""))
        return response.status, answer


class _Named(msgspec.Struct):
    id: str


class _StateOf(msgspec.Struct):
    state: State


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


def _decoded(body: bytes, type: "type[Value]") -> Value:
    try:
        return msgspec.json.decode(body, type=type)
    except msgspec.DecodeError as exc:
        raise TaskwardError(f"the answer is none of Taskward's API: {exc}") from exc


def _path(id: str) -> str:
    """Raises TaskNotFound for what would be another path."""
    if not id or "/" in id:
        raise errors.TaskNotFound(f"no task {id[:64]}")
    return f"/tasks/{quote(id, safe='')}"


def _named(item: Item) -> Item:
    return item if item.get("id") is not None else item | Item(id=str(uuid_utils.uuid7()))


def _parts(items: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """At most so many items together and, if they are more than one, so many bytes."""
    first = size = 0
    for n, item in enumerate(items):
        size += len(item) + 1
        if n > first and (n - first == MOST_PER_REQUEST or size > LARGEST_REQUEST):
            yield items[first:n]
            first, size = n, len(item) + 1
    if items:
        yield items[first:]


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
