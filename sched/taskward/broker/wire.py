"""RESP on a socket in Trio: the short way to a single server, with hiredis reading and writing the protocol in C.

redis-py under trio-asyncio costs a task and three passes of the scheduler a call; this costs none (docs/benchmarks.md).
It does only what the scripts need: a call and its reply, on a connection that is thrown away when in doubt.
Protocol: RESP2, as specified at redis.io/docs/latest/develop/reference/protocol-spec.
"""

import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import hiredis
import redis.connection
import redis.exceptions
import trio
from redis.asyncio.connection import RedisSSLContext, SSLConnection

from taskward.errors import BrokerUnavailable, ConfigError

CONNECT_SECONDS = 2.0
READ_BYTES = 262_144
MOST_IDLE = 8
# A reply from nearby takes less than this, and to sleep until it comes and be woken takes as long again. Where there is
# a core to spare, one that asks one thing after the other looks for it instead.
LOOK_SECONDS = 0.0002 if (os.cpu_count() or 1) > 1 else 0.0
ONE_AFTER_THE_OTHER_SECONDS = 0.001


class ReplyError(Exception):
    """The server answered with an error; the text begins with its code."""


def without_errors(replies: list[Any]) -> list[Any]:
    """The same. Raises the first ReplyError among them."""
    for reply in replies:
        if isinstance(reply, ReplyError):
            raise reply
    return replies


class Plain(trio.abc.AsyncResource):
    """A connected socket. trio.SocketStream gives way to other tasks after every send and every receive; a call needs
    that once, while the server is at work. `look_seconds`: for so long it looks for what comes before it waits for it,
    where the last has come just now.
    """

    def __init__(self, stream: trio.SocketStream, *, look_seconds: float = 0.0) -> None:
        self._socket = socket.socket(fileno=stream.socket.detach())
        self._socket.setblocking(False)
        self._look_seconds = look_seconds
        self._received = 0.0

    async def send_all(self, data: bytes) -> None:
        """Raises OSError. Not a checkpoint where the kernel takes it all at once."""
        left = memoryview(data)
        while True:
            with contextlib.suppress(BlockingIOError):
                left = left[self._socket.send(left) :]
            if not left:
                return
            await trio.lowlevel.wait_writable(self._socket)

    async def receive_some(self, most: int) -> bytes:
        """At least a byte, b"" at the end. Raises OSError."""
        began = now = time.perf_counter()
        look_until = began + self._look_seconds if began < self._received + ONE_AFTER_THE_OTHER_SECONDS else 0.0
        while True:
            if now < look_until:
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.wait_readable(self._socket)
            now = time.perf_counter()
            with contextlib.suppress(BlockingIOError):
                data = self._socket.recv(most)
                self._received = now
                return data

    async def aclose(self) -> None:
        """Whoever waits for it gets trio.ClosedResourceError."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
        await trio.lowlevel.checkpoint()


class Wire:
    """One connection. Not to be shared: whoever has it waits for the reply."""

    def __init__(self, stream: Plain | trio.SSLStream[trio.SocketStream]) -> None:
        self.stream = stream
        self._reader = hiredis.Reader(replyError=ReplyError)

    async def call(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Send commands in one go. -> their replies. Raises the first ReplyError among them, once all have come;
        BrokerUnavailable where the connection ends.
        """
        replies = []
        try:
            await self.stream.send_all(b"".join(map(hiredis.pack_command, commands)))
            for _ in commands:
                reply = self._reader.gets()
                while reply is False:
                    data = await self.stream.receive_some(READ_BYTES)
                    if not data:
                        raise BrokerUnavailable("Redis closed the connection")
                    self._reader.feed(bytes(data))
                    reply = self._reader.gets()
                replies.append(reply)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as exc:
            raise BrokerUnavailable(f"the connection to Redis broke: {exc}") from exc
        return without_errors(replies)

    async def aclose(self) -> None:
        """Close without waiting for anybody."""
        await trio.aclose_forcefully(self.stream)


class Dialer:
    """Opens wires to one server and keeps a few idle ones. Raises BrokerUnavailable where the server is not there."""

    def __init__(self, url: str, *, name: str, look_seconds: float = 0.0) -> None:
        self._at: Mapping[str, Any] = redis.connection.parse_url(url)  # type: ignore[no-untyped-call]
        self._secure = _ssl_context(self._at) if url.startswith("rediss:") else None
        self._name = name
        self._look_seconds = look_seconds
        self._idle: list[Wire] = []

    async def call(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Wire.call on a wire of its own. A wire whose call did not end with a reply is not used again."""
        wire = self._idle.pop() if self._idle else await self._dial()
        whole = False
        try:
            replies = await wire.call(*commands)
            whole = True
        except ReplyError:
            whole = True
            raise
        finally:
            if whole and len(self._idle) < MOST_IDLE:
                self._idle.append(wire)
            else:
                await wire.aclose()
        return replies

    async def drop_idle(self) -> None:
        """Close the idle wires; those in use are closed by their calls."""
        while self._idle:
            await self._idle.pop().aclose()

    async def _dial(self) -> Wire:
        try:
            with trio.fail_after(CONNECT_SECONDS):
                wire = Wire(await self._open_stream())
        except trio.TooSlowError as exc:
            raise BrokerUnavailable("Redis is not reachable: no connection in time") from exc
        except OSError as exc:
            raise BrokerUnavailable(f"Redis is not reachable: {exc}") from exc
        except trio.BrokenResourceError as exc:  # the cause has what TLS found wrong
            raise BrokerUnavailable(f"Redis is not reachable: {exc.__cause__ or exc}") from exc
        async with _closed_on_failure(wire.stream):
            await self._greet(wire)
        return wire

    async def _open_stream(self) -> Plain | trio.SSLStream[trio.SocketStream]:
        if "path" in self._at:
            return Plain(await trio.open_unix_socket(self._at["path"]), look_seconds=self._look_seconds)
        host, port = self._at.get("host", "localhost"), int(self._at.get("port", 6379))
        stream = await trio.open_tcp_stream(host, port)
        if self._secure is None:
            return Plain(stream, look_seconds=self._look_seconds)
        async with _closed_on_failure(stream):
            secure = trio.SSLStream(stream, self._secure.get(), server_hostname=host)
            await secure.do_handshake()
        return secure

    async def _greet(self, wire: Wire) -> None:
        at = self._at
        try:
            if at.get("password"):
                user = (at["username"],) if at.get("username") else ()
                await wire.call(("AUTH", *user, at["password"]))
            if int(at.get("db", 0)):
                await wire.call(("SELECT", int(at["db"])))
            await wire.call(("CLIENT", "SETNAME", self._name.replace(" ", "-")))
        except ReplyError as exc:
            raise BrokerUnavailable(f"Redis does not let us in: {exc}") from exc


@asynccontextmanager
async def _closed_on_failure(stream: trio.abc.AsyncResource) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:
        await trio.aclose_forcefully(stream)  # never blocks
        raise


def _ssl_context(at: Mapping[str, Any]) -> RedisSSLContext:
    """By redis-py, so that both ways take the same options."""
    try:
        return SSLConnection(**{name: value for name, value in at.items() if name.startswith("ssl_")}).ssl_context
    except (redis.exceptions.RedisError, TypeError) as exc:
        raise ConfigError(f"REDIS_URL: {exc}") from exc
