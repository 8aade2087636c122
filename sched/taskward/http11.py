"""HTTP/1.1 on a Trio stream, for requests without a body: they come out whole, responses go in, and no client can be
slow or large for ever.
"""

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import httptools
import trio

from taskward.errors import TaskwardError

_log = logging.getLogger("taskward.http")

RECEIVE_BYTES = 16_384
LINGER_SECONDS = 1.0
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds, bytes, and counts. `idle_seconds` is between requests, `connections` for one server."""

    idle_seconds: float = 75.0
    head_seconds: float = 10.0
    write_seconds: float = 30.0
    head_bytes: int = 16_384
    headers: int = 64
    connections: int = 1000


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Header names are lower case; what came twice is joined with ", "."""

    method: str
    target: bytes
    headers: dict[bytes, bytes]
    keep_alive: bool

    @property
    def path(self) -> bytes:
        """The target without its query; "*" and authority forms stay as they are."""
        if self.target.startswith(b"/"):
            return self.target.partition(b"?")[0]
        try:
            return httptools.parse_url(self.target).path or b"/"
        except httptools.HttpParserInvalidURLError:
            return self.target


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response. Content-Length, Connection and Date are added."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


Answer = Callable[[Request], Awaitable[Response]]


class Refused(TaskwardError):
    """What came is not a request we take: answer with `status`, then close."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Connection:
    """One client. `receive` and `send` alternate; pipelined requests wait their turn in order."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._inbox = _Inbox(limits)

    async def receive(self) -> Request | None:
        """The next request; None where the client left, or stayed idle. Raises Refused at the end."""
        inbox = self._inbox
        if not (inbox.requests or inbox.refusal or await self._fill()):
            return None
        if inbox.requests:
            return inbox.requests.popleft()
        assert inbox.refusal is not None
        raise inbox.refusal

    async def send(self, request: Request | None, response: Response) -> bool:
        """False: this was the last one. Raises trio.BrokenResourceError where the client left or reads too slowly."""
        head_only = request is not None and request.method == "HEAD"
        last = request is None or not request.keep_alive
        with trio.move_on_after(self._limits.write_seconds) as scope:
            await self._stream.send_all(encode(response, head_only=head_only, last=last))
        if scope.cancelled_caught:
            raise trio.BrokenResourceError("the client reads too slowly")
        return not last

    async def linger(self) -> None:
        """Let the client read the last response: closing while it still sends would reset the connection."""
        with trio.move_on_after(LINGER_SECONDS):
            await self._stream.send_eof()
            while await self._stream.receive_some(RECEIVE_BYTES):
                pass

    async def _fill(self) -> bool:
        """Read until there is a request or a refusal. False: the client is gone, or idle for too long."""
        inbox = self._inbox
        begun = inbox.begun
        with trio.move_on_after(self._limits.head_seconds if begun else self._limits.idle_seconds) as scope:
            while not (inbox.requests or inbox.refusal):
                data = await self._stream.receive_some(RECEIVE_BYTES)
                if not data:
                    return False
                inbox.feed(data)
                if inbox.begun and not begun:
                    begun = True
                    scope.deadline = trio.current_time() + self._limits.head_seconds
        if scope.cancelled_caught and inbox.begun:
            inbox.refusal = Refused(408, "the request took too long")
        return bool(inbox.requests or inbox.refusal)


async def serve_connection(stream: trio.abc.HalfCloseableStream, answer: Answer, *, limits: Limits) -> None:
    """Answer requests until either side has enough. Raises what `answer` raises; the caller closes the stream."""
    connection = Connection(stream, limits)
    try:
        open_still = True
        while open_still and (request := await connection.receive()) is not None:
            open_still = await connection.send(request, await answer(request))
    except Refused as refused:
        await _turn_away(connection, Response(refused.status, f"{refused.status} {refused}\n".encode()))
    except GONE:
        pass


async def serve(answer: Answer, listeners: Sequence[trio.SocketListener], *, limits: Limits) -> None:
    """Serve for ever on open listeners. A client beyond `limits.connections` is closed unheard. What goes wrong on one
    connection is logged, and the end of that one only.
    """
    open_now = 0

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal open_now
        if open_now >= limits.connections:
            return
        open_now += 1
        try:
            await serve_connection(stream, answer, limits=limits)
        except Exception:  # noqa: BLE001 - whatever a library makes of what a client sends
            _log.exception("a connection failed")
        finally:
            open_now -= 1

    await trio.serve_listeners(handle, list(listeners))


async def _turn_away(connection: Connection, response: Response) -> None:
    with suppress(*GONE):
        await connection.send(None, response)
        await connection.linger()


@dataclass(slots=True)
class _Inbox:
    """What llhttp has made of the bytes so far: whole requests, then at most one refusal. `begun`: part of another."""

    limits: Limits
    requests: deque[Request] = field(default_factory=deque)
    refusal: Refused | None = None
    begun: bool = False
    _parser: Any = None
    _raw: int = 0
    _size: int = 0
    _fields: int = 0
    _target: bytes = b""
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _keep_alive: bool = True

    def __post_init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes | bytearray) -> None:
        had_begun = self.begun
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.refusal = Refused(400, "nothing may follow an upgrade")
        except httptools.HttpParserCallbackError:
            self.refusal = self.refusal or Refused(400, "malformed request")
        except httptools.HttpParserError as exc:
            self.refusal = Refused(400, f"malformed request: {exc}")
        else:
            # One endless header calls nothing back, so what stays in the head is counted here.
            self._raw = self._raw + len(data) if had_begun and self.begun else 0
            if self._raw > self.limits.head_bytes:
                self.refusal = Refused(431, "the head is too long")

    def on_message_begin(self) -> None:
        self.begun = True
        self._size = self._fields = 0
        self._target, self._headers = b"", {}

    def on_url(self, part: bytes) -> None:
        self._target += part
        self._require(len(self._target) <= self.limits.head_bytes, 431, "the request target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._size += len(name) + len(value)
        self._require(self._fields <= self.limits.headers, 431, "too many headers")
        self._require(self._size <= self.limits.head_bytes, 431, "the headers are too long")
        name = name.lower()
        before = self._headers.get(name)
        self._headers[name] = value if before is None else before + b", " + value

    def on_headers_complete(self) -> None:
        headers, version = self._headers, self._parser.get_http_version()
        self._require(version in ("1.1", "1.0"), 505, f"HTTP/{version} is not spoken here")
        hosts = headers[b"host"].count(b",") + 1 if b"host" in headers else 0
        self._require(hosts == 1 or version == "1.0", 400, "one Host header is needed")
        has_body = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
        self._require(not has_body, 413, "no request here has a body")
        upgrade = self._parser.should_upgrade()
        self._keep_alive = version == "1.1" and self._parser.should_keep_alive() and not upgrade

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        self.requests.append(Request(method, self._target, self._headers, self._keep_alive))
        self.begun = False

    def _require(self, fine: bool, status: int, detail: str) -> None:
        if not fine:
            self.refusal = Refused(status, detail)
            raise self.refusal


def encode(response: Response, *, head_only: bool, last: bool) -> bytes:
    """As it goes over the wire. `last`: the connection is closed after it. Raises ValueError for a broken header."""
    lines = [f"HTTP/1.1 {status_line(response.status)}", f"Date: {http_date(int(time.time()))}"]
    if response.status not in (204, 304):
        lines.append(f"Content-Length: {len(response.body)}")
    if response.body:
        lines.append(f"Content-Type: {response.content_type}")
    lines += [f"{name}: {value}" for name, value in response.headers]
    if last:
        lines.append("Connection: close")
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a response header holds a line break")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head if head_only else head + response.body


@lru_cache
def status_line(status: int) -> str:
    """Code and phrase, as in "202 Accepted"."""
    return f"{status} {HTTPStatus(status).phrase}"


@lru_cache(maxsize=2)
def http_date(second: int) -> str:
    """Unix seconds as a Date header has them."""
    return formatdate(second, usegmt=True)
