"""Redis for threads without Trio: redis-py's blocking client, and a Connection that waits in the thread that calls.

Broker's verbs wait for nothing but their connection. Over this one a thread runs them: to their end (`finished`), or
first until their command is sent (`begun`).
"""

import os
import socket
import ssl
import time
import types
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from taskward.broker import discovery
from taskward.broker.connection import CALL_SECONDS, UNLIMITED, Connection, unavailable
from taskward.broker.wire import (
    CONNECT_SECONDS,
    LOOK_SECONDS,
    ONE_AFTER_THE_OTHER_SECONDS,
    READ_BYTES,
    ReplyError,
    without_errors,
)
from taskward.errors import BrokerUnavailable, ConfigError

Value = TypeVar("Value")


def blocking_client(url: str, *, seconds: float, name: str, queue: str) -> "redis.Redis":
    """A client whose calls take so long at most and are not repeated. Connects at the first use. Raises ConfigError."""
    options: dict[str, Any] = {
        "client_name": name.replace(" ", "-"),
        "socket_timeout": seconds,
        "socket_connect_timeout": min(seconds, CONNECT_SECONDS),
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "max_connections": UNLIMITED,
    }
    try:
        if discovery.is_discovered(url):
            return discovery.blocking_client(url, options, queue=queue)
        return redis.Redis.from_url(url, **options)
    except ValueError as exc:
        raise ConfigError(f"REDIS_URL: {exc}") from exc


class BlockingConnection(Connection):
    """A line for each call under way: any number of threads may share it, and a process that uses it may fork."""

    def __init__(self, url: str, *, name: str, queue: str, seconds: float = CALL_SECONDS) -> None:
        """Raises ConfigError for a URL that is none."""
        self._pool = blocking_client(url, seconds=seconds, name=name, queue=queue).connection_pool
        try:
            self._pool.make_connection()  # which does not connect yet, but looks at the options
        except (redis.RedisError, TypeError) as exc:
            raise ConfigError(f"REDIS_URL: {exc}") from exc
        self._owner = os.getpid()
        self._idle: list[_Line] = []
        self._waiting: list[_Line] = []
        self._answered = 0.0

    @contextmanager
    def in_a_row(self) -> "Iterator[Row]":
        """One line for one thread: what is sent first is carried out first."""
        line = self._take()
        try:
            yield Row(self, line)
        finally:
            self._give_back(line)

    async def _call(self, *commands: tuple[Any, ...], patience: float = CALL_SECONDS) -> Sequence[Any]:  # noqa: ARG002 - the socket has the same bound
        line = self._take()
        try:
            return await self.exchange(line, commands)
        finally:
            self._give_back(line)

    def _take(self) -> "_Line":
        if self._owner != os.getpid():  # the parent's sockets are the parent's
            self._idle, self._waiting, self._owner = [], [], os.getpid()
        # redis-py's own pool takes longer to hand one out than Redis to answer.
        return self._idle.pop() if self._idle else _Line(self._pool)

    def _give_back(self, line: "_Line") -> None:
        if line.whole:
            self._idle.append(line)
        else:
            line.close()

    async def exchange(self, line: "_Line", commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Commands and their replies. Raises the first error among these, or BrokerUnavailable."""
        sent = _Sent(len(commands))
        self._waiting.append(line)
        line.under_way.append(sent)
        try:
            line.send(commands)
            await _on_its_way()
            replies = line.replies(sent, look_until=self._look_until(line))
        except Exception as exc:  # which of them will pass, only `unavailable` knows
            failure = unavailable(exc)
            if failure is not None or not isinstance(exc, ReplyError):
                line.close()  # what still comes is nobody's answer
            if failure is None:
                raise
            self.close()  # the others are no better: cut as well, or to a server that is somebody's replica now
            raise failure from failure.__cause__
        except BaseException:
            line.close()
            raise
        finally:
            line.under_way.remove(sent)
            self._waiting.remove(line)
        self._answered = time.perf_counter()
        return replies

    def _look_until(self, line: "_Line") -> float:
        """As wire.Plain, while no other thread waits as well: together they would only take turns at Python's lock."""
        now = time.perf_counter()
        alone = all(other is line for other in self._waiting)
        return now + LOOK_SECONDS if alone and now < self._answered + ONE_AFTER_THE_OTHER_SECONDS else 0.0

    def close(self) -> None:
        """Give back the sockets that no call has."""
        while self._idle:
            self._idle.pop().close()


class Row(Connection):
    """Calls by one line. It is `smooth` until one of them fails: that has to be repeated before another is begun, and
    so have those that were on their way behind it.
    """

    def __init__(self, connection: BlockingConnection, line: "_Line") -> None:
        self.smooth = True
        self._connection = connection
        self._line = line

    async def _call(self, *commands: tuple[Any, ...], patience: float = CALL_SECONDS) -> Sequence[Any]:  # noqa: ARG002 - the socket has the same bound
        try:
            return await self._connection.exchange(self._line, commands)
        except BaseException:
            self.smooth = False
            raise


class _Sent:
    """Commands that are on their way, and the replies that have come; `lost`: no more will."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.replies: list[Any] = []
        self.lost = False

    @property
    def complete(self) -> bool:
        """All replies are there."""
        return len(self.replies) == self.expected


class _Line:
    """A socket that redis-py opens, which knows addresses, logins and TLS. Its own calls take twice as long.

    `under_way` has what was sent and whose sender has not had the replies yet, oldest first.
    """

    def __init__(self, pool: "redis.ConnectionPool") -> None:
        self.under_way: list[_Sent] = []
        self._connection: Any = pool.make_connection()
        self._reader: hiredis.Reader | None = None

    @property
    def whole(self) -> bool:
        """It is open, and nothing more comes."""
        return self._reader is not None and not self.under_way

    def send(self, commands: Sequence[tuple[Any, ...]]) -> None:
        """Raises OSError and redis-py's errors."""
        if self._reader is None:
            self._connection.connect()
            self._reader = hiredis.Reader(replyError=ReplyError)
        at: socket.socket = self._connection._sock  # noqa: SLF001 - redis-py tells nobody else its socket
        data = b"".join(map(hiredis.pack_command, commands))
        if not isinstance(at, ssl.SSLSocket):
            with suppress(BlockingIOError):  # as in _received: one system call where `sendall` makes two
                data = data[os.write(at.fileno(), data) :]
        if data:
            at.sendall(data)

    def replies(self, sent: _Sent, *, look_until: float) -> list[Any]:
        """To these commands. Raises the first ReplyError among them, once all have come; OSError; BrokerUnavailable
        where the line has ended.
        """
        while not sent.complete:
            if sent.lost:
                raise BrokerUnavailable("the connection to Redis has ended")
            reply = self._reply(look_until)
            oldest = next(other for other in self.under_way if not other.complete and not other.lost)
            oldest.replies.append(reply)
        return without_errors(sent.replies)

    def _reply(self, look_until: float) -> Any:
        assert self._reader is not None
        reply = self._reader.gets()
        while reply is False:
            data = self._received(look_until)
            if not data:
                raise BrokerUnavailable("Redis closed the connection")
            self._reader.feed(data)
            reply = self._reader.gets()
        return reply

    def _received(self, look_until: float) -> bytes:
        at: socket.socket = self._connection._sock  # noqa: SLF001
        while time.perf_counter() < look_until and not isinstance(at, ssl.SSLSocket):
            with suppress(BlockingIOError):  # which a socket with a timeout lets its own methods wait for
                return os.read(at.fileno(), READ_BYTES)
        return at.recv(READ_BYTES)

    def close(self) -> None:
        """Without waiting for anybody. The next call opens it again."""
        for sent in self.under_way:
            sent.lost = not sent.complete
        self._reader = None
        self._connection.disconnect()


@types.coroutine
def _on_its_way() -> Iterator[None]:
    """Where a verb stops that was begun: its command is sent, and the thread has something else to do."""
    yield


def begun(coroutine: Coroutine[Any, Any, Value]) -> Coroutine[Any, Any, Value]:
    """The same, as far as its command is sent: `finished` has the reply. Raises BrokerUnavailable."""
    coroutine.send(None)
    return coroutine


def finished(coroutine: Coroutine[Any, Any, Value]) -> Value:
    """What a coroutine returns that waits for nothing but this connection."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration as stop:
        value: Value = stop.value
        return value
