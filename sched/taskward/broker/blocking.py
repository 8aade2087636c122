"""Redis for threads without Trio: redis-py's blocking client, and a Connection that waits in the thread that calls.

Broker's verbs wait for nothing but their connection. Over this one they run to their end at once: `finished`.
"""

import os
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from taskward.broker import discovery
from taskward.broker.connection import CALL_SECONDS, Connection, translated
from taskward.broker.wire import CONNECT_SECONDS, LOOK_SECONDS, ONE_AFTER_THE_OTHER_SECONDS
from taskward.errors import BrokerUnavailable, ConfigError

Value = TypeVar("Value")


def blocking_client(url: str, *, seconds: float, name: str, queue: str) -> "redis.Redis":
    """A client whose calls take so long at most and are not repeated. Connects at the first use. Raises ConfigError."""
    options: dict[str, Any] = {
        "client_name": name.replace(" ", "-"),
        "socket_timeout": seconds,
        "socket_connect_timeout": min(seconds, CONNECT_SECONDS),
        "retry": Retry(NoBackoff(), 0),
    }
    try:
        if discovery.is_discovered(url):
            return discovery.blocking_client(url, options, queue=queue)
        return redis.Redis.from_url(url, **options)
    except ValueError as exc:
        raise ConfigError(f"REDIS_URL: {exc}") from exc


class BlockingConnection(Connection):
    """A socket for each call under way: any number of threads may share it, and a process that uses it may fork."""

    def __init__(self, url: str, *, name: str, queue: str) -> None:
        """Raises ConfigError for a URL that is none."""
        self._pool = blocking_client(url, seconds=CALL_SECONDS, name=name, queue=queue).connection_pool
        self._idle: list[Any] = []
        try:
            self._pool.make_connection()  # which does not connect yet, but looks at the options
        except (redis.RedisError, TypeError) as exc:
            raise ConfigError(f"REDIS_URL: {exc}") from exc
        self._owner = os.getpid()
        self._waiting: list[Any] = []
        self._answered = 0.0

    async def _call(self, *commands: tuple[Any, ...], patience: float = CALL_SECONDS) -> Sequence[Any]:  # noqa: ARG002 - the socket has the same bound
        if self._owner != os.getpid():  # the parent's sockets are the parent's
            self._idle, self._waiting, self._owner = [], [], os.getpid()
        try:
            with translated():
                return self._exchange(commands)
        except BrokerUnavailable:
            self.close()  # the others are no better: cut as well, or to a server that is somebody's replica now
            raise

    def _exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        # redis-py's own pool takes longer to hand one out than Redis to answer.
        connection = self._idle.pop() if self._idle else self._connected()
        self._waiting.append(connection)
        try:
            connection.send_packed_command([b"".join(map(hiredis.pack_command, commands))])
            self._look(connection)
            replies = [_reply(connection) for _ in commands]
        except BaseException:
            connection.disconnect()  # what still comes is nobody's answer
            raise
        finally:
            self._waiting.remove(connection)
        self._answered = time.perf_counter()
        self._idle.append(connection)
        for reply in replies:
            if isinstance(reply, redis.ResponseError):
                raise reply
        return replies

    def _look(self, connection: Any) -> None:
        """As wire.Plain, while no other thread waits as well: together they would only take turns at Python's lock."""
        now = time.perf_counter()
        if now < self._answered + ONE_AFTER_THE_OTHER_SECONDS:
            look_until = now + LOOK_SECONDS
            while len(self._waiting) == 1 and time.perf_counter() < look_until and not connection.can_read():
                pass

    def _connected(self) -> Any:
        connection: Any = self._pool.make_connection()
        connection.connect()
        return connection

    def close(self) -> None:
        """Give back the sockets that no call has."""
        while self._idle:
            self._idle.pop().disconnect()


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as exc:
        return exc


def finished(coroutine: Coroutine[Any, Any, Value]) -> Value:
    """What a coroutine returns that waits for nothing, or only in this thread."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: Value = stop.value
        return value
    raise RuntimeError(f"{coroutine} waits for Trio")
