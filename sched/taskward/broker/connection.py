"""The connection to Redis. Driver errors stop here, and every wait has a bound.

Scripts and commands go by a wire of our own to a single server (wire.py), and by redis.asyncio inside trio-asyncio
wherever redis-py has more to do: Sentinel, Cluster, subscriptions, or because the caller asks for it.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

import hiredis
import redis.asyncio
import redis.asyncio.sentinel
import redis.exceptions
import redis.sentinel
import trio
import trio_asyncio
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from taskward.broker import discovery
from taskward.broker.script import Script
from taskward.broker.wire import CONNECT_SECONDS, Dialer, ReplyError
from taskward.errors import BrokerUnavailable, ConfigError

_log = logging.getLogger("taskward.redis")

CALL_SECONDS = 5.0
CLOSE_SECONDS = 1.0
# redis-py's pools count the connections they make, and stop at a hundred, be they closed long since.
UNLIMITED = 2**31
# How long a write may take to reach the replicas that are waited for.
REPLICAS_MS = 1000
# A subscription that has heard nothing for so long asks whether the server is still there.
LISTEN_SECONDS = 10.0
LATE = "Redis did not answer in time"
# Replies of a server that is there but cannot serve now: their codes, and redis-py's classes for some of them.
PASSING = (
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "BUSY",
    "OOM",
    "MISCONF",
    "NOREPLICAS",
    "UNBLOCKED",
    "MOVED",
    "ASK",
)
_PASSING_CLASSES = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.MasterDownError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.AskError,  # and MovedError: another node of a Cluster has the queue now, or will have it soon
)

Argument = str | bytes | int | float


class Call(Protocol):
    """One of the two ways to a server."""

    async def __call__(self, *commands: tuple[Argument, ...]) -> Sequence[Any]:
        """Send commands in one go. -> their replies. Raises the first error among them."""


class Connection:
    """Sends commands. Raises BrokerUnavailable where the server does not answer in time or cannot serve now.

    A call that raised may have been carried out: whoever repeats it must send what can be replayed.
    """

    def __init__(self, client: "redis.asyncio.Redis", call: Call, drop_idle: Callable[[], Awaitable[None]]) -> None:
        self._client = client
        self._send = call
        self._drop_idle = drop_idle

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Argument],
        *,
        marker: str = "",
        seconds: float = 0.0,
        replicas: int = 0,
    ) -> Any:
        """EVALSHA; where the server has lost the script, EVAL, which gives it back.

        With `marker` the server first waits until it can take something from this list, at most so long, and runs the
        script at once then: there is no second round trip between a marker and what it is a marker of.
        With `replicas`, BrokerUnavailable is raised also where fewer than that have what the script wrote.
        """
        first: tuple[tuple[Argument, ...], ...] = (("BLPOP", marker, seconds),) if marker else ()
        last: tuple[tuple[Argument, ...], ...] = (("WAIT", replicas, REPLICAS_MS),) if replicas else ()
        try:
            replies = await self._call(
                *first, ("EVALSHA", script.sha, len(keys), *keys, *args), *last, patience=seconds + CALL_SECONDS
            )
        except (ReplyError, redis.exceptions.NoScriptError) as exc:
            if isinstance(exc, ReplyError) and not str(exc).startswith("NOSCRIPT"):
                raise
            first = ()
            replies = await self._call(("EVAL", script.source, len(keys), *keys, *args), *last)
        if replicas and replies[-1] < replicas:
            raise BrokerUnavailable(f"Redis has it, but only {replies[-1]} of {replicas} replicas have")
        return replies[len(first)]

    async def command(self, *parts: Argument) -> Any:
        """Any other command. Replies are as redis-py or the wire give them: a caller takes both."""
        [reply] = await self._call(parts)
        return reply

    @asynccontextmanager
    async def subscription(self, channel: str) -> AsyncIterator[Callable[[], Awaitable[bytes | None]]]:
        """Listen to `channel`: the value waits for the next message when called; None where none came for long.

        Raises BrokerUnavailable, also where the server has gone without a word: it answers in a silence, or is left.
        """
        async with self._client.pubsub(ignore_subscribe_messages=True) as pubsub:
            get_message = trio_asyncio.aio_as_trio(pubsub.get_message)

            async def receive() -> bytes | None:
                with translated():
                    message = await get_message(timeout=LISTEN_SECONDS)
                    if message is None:
                        with trio.fail_after(CALL_SECONDS):
                            await trio_asyncio.aio_as_trio(pubsub.ping)()
                            message = await get_message(timeout=None)
                return message["data"] if message is not None and message["type"] == "message" else None

            with translated(), trio.fail_after(CALL_SECONDS):
                await trio_asyncio.aio_as_trio(pubsub.subscribe)(channel)
            yield receive

    async def _call(self, *commands: tuple[Argument, ...], patience: float = CALL_SECONDS) -> Sequence[Any]:
        try:
            with trio.move_on_after(patience):
                return await self._send(*commands)
            failure = BrokerUnavailable(LATE)
        except Exception as exc:  # which of them will pass, only `unavailable` knows
            passing = unavailable(exc)
            if passing is None:
                raise
            failure = passing
        # The other connections are no better: cut as well, or to a server that is somebody's replica now.
        await self._drop_idle()
        raise failure


def unavailable(exc: BaseException) -> BrokerUnavailable | None:
    """What a driver raised, where it will pass, with that as its cause; None for all else."""
    match exc:
        case BrokerUnavailable():
            return exc
        case trio.TooSlowError():
            failure = BrokerUnavailable(LATE)
        case (
            redis.sentinel.MasterNotFoundError() | redis.asyncio.sentinel.MasterNotFoundError()
        ):  # whose text has the clients' inner life in it
            failure = BrokerUnavailable(
                "Redis is not reachable: no Sentinel that answers knows of a primary by this name"
            )
        case redis.exceptions.ConnectionError() | redis.exceptions.TimeoutError() | OSError():
            failure = BrokerUnavailable(f"Redis is not reachable: {exc}")
        case ReplyError() | redis.exceptions.ResponseError() if str(exc).startswith(PASSING) or isinstance(
            exc, _PASSING_CLASSES
        ):
            failure = BrokerUnavailable(f"Redis cannot serve now: {exc}")
        case _:
            return None
    failure.__cause__ = exc
    return failure


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """What drivers raise, as BrokerUnavailable where it will pass."""
    try:
        yield
    except Exception as exc:  # which of them will pass, only `unavailable` knows
        if failure := unavailable(exc):
            raise failure from failure.__cause__
        raise


@asynccontextmanager
async def open_connection(
    url: str, *, name: str, queue: str = "", wire: bool = True, look_seconds: float = 0.0
) -> AsyncIterator[Connection]:
    """Open the asyncio loop that redis-py needs, and a client in it; nothing is sent until the first call.

    `redis://`, `rediss://`, `unix://`, or one of discovery.py's, where a Cluster has to know whose `queue` it is.
    `wire=False` sends everything by redis-py; `look_seconds`: see wire.Plain. Raises ConfigError for any other URL.
    """
    client = _client(url, name, queue)
    dialer = None if discovery.is_discovered(url) or not wire else Dialer(url, name=name, look_seconds=look_seconds)
    async with trio_asyncio.open_loop() as loop:
        loop.set_exception_handler(_tell)
        try:
            if dialer is not None:
                yield Connection(client, dialer.call, dialer.drop_idle)
            else:
                yield Connection(client, _by_redis_py(client), partial(_disconnect_idle, client))
        finally:
            with trio.move_on_after(CLOSE_SECONDS) as closing:
                closing.shield = True
                if dialer is not None:
                    await dialer.drop_idle()
                await trio_asyncio.aio_as_trio(client.aclose)()
                if discovery.is_discovered(url):
                    await trio_asyncio.aio_as_trio(discovery.close_manager)(client)


def _tell(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Of what nobody awaited. trio-asyncio's own way would be to end the loop, and the process with it."""
    _log.error("asyncio: %s", context["message"], exc_info=context.get("exception"))


def _by_redis_py(client: "redis.asyncio.Redis") -> Call:
    def as_it_is(response: Any, **_options: Any) -> Any:
        return response

    client.set_response_callback("HSCAN", as_it_is)  # its own takes the ids of NOVALUES for pairs

    async def pipelined(commands: tuple[tuple[Argument, ...], ...]) -> list[Any]:
        async with client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return list(await pipeline.execute(raise_on_error=False))

    execute = trio_asyncio.aio_as_trio(client.execute_command)
    execute_all = trio_asyncio.aio_as_trio(pipelined)

    async def call(*commands: tuple[Argument, ...]) -> list[Any]:
        if len(commands) == 1:
            return [await execute(*commands[0])]
        replies: list[Any] = await execute_all(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    return call


async def _disconnect_idle(client: "redis.asyncio.Redis") -> None:
    pool = client.connection_pool
    # Out of the pool first: its own disconnect() lets others take them in the meantime.
    idle, pool._available_connections = pool._available_connections, []  # noqa: SLF001
    for connection in idle:
        await trio_asyncio.aio_as_trio(connection.disconnect)(nowait=True)


def _client(url: str, name: str, queue: str) -> "redis.asyncio.Redis":
    options: dict[str, Any] = {
        "client_name": name.replace(" ", "-"),
        "socket_timeout": None,  # every call has its own bound, in Trio
        "socket_connect_timeout": CONNECT_SECONDS,
        "retry": Retry(NoBackoff(), 0),  # the default repeats every command ten times, pops included
        "health_check_interval": 0,
        "max_connections": UNLIMITED,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    try:
        if discovery.is_discovered(url):
            return discovery.async_client(url, options, queue=queue)
        pool = redis.asyncio.ConnectionPool.from_url(url, **options)
    except ValueError as exc:
        raise ConfigError(f"REDIS_URL: {exc}") from exc
    pool.connection_class = _quickly_packing(pool.connection_class)
    return redis.asyncio.Redis.from_pool(pool)


def _quickly_packing(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """The same connection, packing commands in C: redis-py does so in its blocking client only."""

    def pack_command(_self: Any, *args: Any) -> list[bytes]:
        return [hiredis.pack_command(args)]

    return type(kind.__name__, (kind,), {"pack_command": pack_command})
