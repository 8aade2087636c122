"""The fast lane: submissions as JSON, one or an array of them, answered on the accepted stream, without Quart.

It takes such requests in their plainest form: HTTP/1.1, a Content-Length, no preferences. Whatever else comes, on a new
connection or after a hundred fast ones, is handed on with every byte read so far, so that oddities, errors of the
protocol and all other routes are hypercorn's and Quart's. What a submission *means* is one function for both:
tasks.accept_task, batch.accept_batch.
"""

import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus

import httptools
import trio

from taskward.api.auth import Scope
from taskward.api.batch import accept_batch
from taskward.api.problems import CONTENT_TYPE, headers_of, kind_of, problem_of
from taskward.api.render import JSON, encode
from taskward.api.service import Service
from taskward.api.tasks import accept_task
from taskward.errors import TaskwardError
from taskward.events import HttpAnswered, SubmissionRefused
from taskward.http11 import http_date, status_line

LINES = (b"POST /tasks HTTP/1.1\r\n", b"POST /tasks/batch HTTP/1.1\r\n")
END = b"\r\n\r\n"
HEAD_BYTES = 16_384
LENGTH_DIGITS = 18
RECEIVE_BYTES = 65_536
HEAD_SECONDS, BODY_SECONDS, WRITE_SECONDS = 5.0, 1.0, 30.0
# A request with one of these is not plain.
NOT_PLAIN = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"prefer", b"content-encoding", b"te", b"trailer"})
LOOKED_AT = frozenset(
    {
        *(b"content-length", b"content-type", b"authorization", b"host", b"connection", b"sec-fetch-site", b"origin"),
        b"traceparent",
    }
)

# Status, body, content type, other headers.
Answer = tuple[int, bytes, str, dict[str, str]]

_log = logging.getLogger("taskward.api")


class Turn:
    """What one connection is at, for whoever watches the time: past `until` its scope is cancelled."""

    __slots__ = ("_idle_seconds", "idle", "scope", "until")

    def __init__(self, idle_seconds: float) -> None:
        self._idle_seconds = idle_seconds
        self.scope = trio.CancelScope()
        self.rest()

    def rest(self) -> None:
        """Nothing is under way."""
        self.wait_for(self._idle_seconds)
        self.idle = True

    def work(self) -> None:
        """The client waits for us: time does not matter."""
        self.until = math.inf
        self.idle = False

    def wait_for(self, seconds: float) -> None:
        """The next thing has to come within so many seconds."""
        self.until = trio.current_time() + seconds
        self.idle = False


async def drive(
    stream: trio.SocketStream, service: Service, turn: Turn, *, stopping: Callable[[], bool]
) -> bytes | None:
    """Answer plain submissions. -> what was read of the first other request, None where the connection is over.

    Raises trio.BrokenResourceError where the client has left.
    """
    buffer = bytearray()
    while True:
        if not buffer:
            turn.rest()
        length = await _receive_head(stream, buffer, turn)
        head = _read_head(bytes(buffer[:length])) if length else None
        if head is None or head.content_length > service.max_body_bytes:
            return bytes(buffer) or None
        end = length + head.content_length
        turn.work()
        if len(buffer) < end and not await _receive_body(stream, buffer, end):
            return bytes(buffer)
        body = bytes(buffer[length:end])
        del buffer[:end]
        answer = await _answer(service, head, body)
        last = head.closes or stopping()
        turn.wait_for(WRITE_SECONDS)
        await stream.send_all(_render(*answer, last=last))
        if last:
            return None


async def _receive_head(stream: trio.SocketStream, buffer: bytearray, turn: Turn) -> int:
    """Read until there is a whole head of our kind. -> its length; 0 where it is another, or the client left."""
    while True:
        if not (buffer.startswith(LINES) or any(line.startswith(buffer) for line in LINES)):
            return 0
        found = buffer.find(END)
        if found >= 0:
            return found + len(END)
        if len(buffer) > HEAD_BYTES:
            return 0
        data = await stream.receive_some(RECEIVE_BYTES)
        if not data:
            return 0
        if not buffer:
            turn.wait_for(HEAD_SECONDS)
        buffer += data


async def _receive_body(stream: trio.SocketStream, buffer: bytearray, end: int) -> bool:
    """Read up to `end`. False where that takes long, or the client stops sending: slow ones are not for this lane."""
    with trio.move_on_after(BODY_SECONDS):
        while len(buffer) < end:
            data = await stream.receive_some(RECEIVE_BYTES)
            if not data:
                return False
            buffer += data
    return len(buffer) >= end


class _Head:
    """The headers that matter of one request; `plain` is False where there is anything we do not deal with."""

    def __init__(self) -> None:
        self.plain = True
        self.route = ""
        self.values: dict[bytes, str] = {}

    def on_url(self, url: bytes) -> None:
        """Called by llhttp."""
        self.route = url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by llhttp."""
        name = name.lower()
        if name in LOOKED_AT:
            self.plain = self.plain and name not in self.values
            self.values[name] = value.decode("latin-1")
        elif name in NOT_PLAIN:
            self.plain = False

    @property
    def content_length(self) -> int:
        return int(self.values[b"content-length"])

    @property
    def closes(self) -> bool:
        return self.values.get(b"connection", "").lower() == "close"

    def text(self, name: bytes) -> str:
        """A header, '' where there is none."""
        return self.values.get(name, "")


@lru_cache(maxsize=256)
def _read_head(head: bytes) -> _Head | None:
    """None where it is not plain. A client sends the same head again and again, so the answers are kept."""
    found = _Head()
    parser = httptools.HttpRequestParser(found)
    try:
        parser.feed_data(head)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    if (
        not found.plain
        or not found.text(b"host")
        or not found.text(b"content-length").isdecimal()
        or len(found.text(b"content-length")) > LENGTH_DIGITS
        or found.text(b"connection").lower() not in ("", "keep-alive", "close")
        or found.text(b"content-type").partition(";")[0].strip().lower() != JSON
    ):
        return None
    return found


async def _answer(service: Service, head: _Head, body: bytes) -> Answer:
    """The same as the Quart route's, whatever comes."""
    if service.traces is None:
        return await _answer_untraced(service, head, body)
    with service.traces.request("POST", head.route, {"traceparent": head.text(b"traceparent")}) as answered:
        answer = await _answer_untraced(service, head, body)
        answered(answer[0])
        return answer


async def _answer_untraced(service: Service, head: _Head, body: bytes) -> Answer:
    began = time.perf_counter()
    try:
        service.guard.admit(
            Scope.SUBMIT,
            authorization=head.text(b"authorization"),
            host=head.text(b"host"),
            site=head.text(b"sec-fetch-site"),
            origin=head.text(b"origin"),
            now=datetime.now(UTC),
        )
        answer = await (_accept_one if head.route == "/tasks" else _accept_many)(service, body)
    except Exception as error:  # noqa: BLE001 - as Quart does for its routes: a bug is an answer, not the end of all
        if not isinstance(error, TaskwardError) and kind_of(error).status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.exception("POST %s failed", head.route)
        problem = problem_of(error)
        service.observe(SubmissionRefused(problem.word))
        answer = problem.status, encode(problem), CONTENT_TYPE, headers_of(error)
    service.observe(HttpAnswered("POST", head.route, answer[0], time.perf_counter() - began))
    return answer


async def _accept_one(service: Service, body: bytes) -> Answer:
    accepted, status = await accept_task(service, body)
    return status, encode(accepted), JSON, {"Location": f"/tasks/{accepted.id}"}


async def _accept_many(service: Service, body: bytes) -> Answer:
    return 200, encode(await accept_batch(service, body)), JSON, {}


def _render(status: int, body: bytes, content_type: str, headers: dict[str, str], *, last: bool) -> bytes:
    more = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if last:
        more += "Connection: close\r\n"
    head = (
        f"HTTP/1.1 {status_line(status)}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        f"Date: {http_date(int(time.time()))}\r\n"
        f"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n{more}\r\n"
    )
    return head.encode("latin-1") + body
