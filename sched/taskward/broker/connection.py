"""The connection to Redis: redis.asyncio inside trio-asyncio. Driver errors stop here; every wait has a bound."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import hiredis
import redis.asyncio
import redis.exceptions
import trio
import trio_asyncio
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from taskward.broker.script import Script
from taskward.errors import BrokerUnavailable

CALL_SECONDS = 5.0
CONNECT_SECONDS = 2.0
CLOSE_SECONDS = 1.0
LISTEN_SECONDS = 30.0
# Replies of a server that is there but cannot serve now; what they begin with.
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
)

Argument = str | bytes | int | float


class Connection:
    """Sends commands. Raises BrokerUnavailable where the server does not answer in time or cannot serve now.

    A call that raised may have been carried out: whoever repeats it must send what can be replayed.
    """

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._client = client

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """EVALSHA; where the server has lost the script, EVAL, which gives it back."""
        try:
            return await self._call("EVALSHA", script.sha, len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            return await self._call("EVAL", script.source, len(keys), *keys, *args)

    async def command(self, *parts: Argument) -> Any:
        """Any other command."""
        return await self._call(*parts)

    async def pop(self, key: str, *, seconds: float) -> bool:
        """Take one marker from a list, waiting for it at most so long. -> whether there was one."""
        return await self._call("BLPOP", key, seconds, patience=seconds + CALL_SECONDS) is not None

    @asynccontextmanager
    async def subscription(self, channel: str) -> AsyncIterator[Callable[[], Awaitable[bytes | None]]]:
        """Listen to `channel`: the value waits for the next message when called; None where none came for long."""
        async with self._client.pubsub(ignore_subscribe_messages=True) as pubsub:

            async def receive() -> bytes | None:
                with _translated():
                    message = await trio_asyncio.aio_as_trio(pubsub.get_message)(timeout=LISTEN_SECONDS)
                return None if message is None else message["data"]

            with _translated(), trio.fail_after(CALL_SECONDS):
                await trio_asyncio.aio_as_trio(pubsub.subscribe)(channel)
            yield receive

    async def _call(self, *parts: Argument, patience: float = CALL_SECONDS) -> Any:
        with _translated(), trio.fail_after(patience):
            return await trio_asyncio.aio_as_trio(self._client.execute_command)(*parts)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except trio.TooSlowError as exc:
        raise BrokerUnavailable("Redis did not answer in time") from exc
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as exc:
        raise BrokerUnavailable(f"Redis is not reachable: {exc}") from exc
    except redis.exceptions.NoScriptError:
        raise
    except redis.exceptions.ResponseError as exc:
        if str(exc).upper().startswith(PASSING) or type(exc).__name__ in _PASSING_CLASSES:
            raise BrokerUnavailable(f"Redis cannot serve now: {exc}") from exc
        raise


# redis-py strips the code from the replies it has a class for.
_PASSING_CLASSES = frozenset(
    {"OutOfMemoryError", "ReadOnlyError", "MasterDownError", "ClusterDownError", "TryAgainError"}
)


def _quickly_packing(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """The same connection, packing commands in C: redis-py does so in its blocking client only."""

    def pack_command(_self: Any, *args: Argument) -> list[bytes]:
        return [hiredis.pack_command(args)]

    return type(kind.__name__, (kind,), {"pack_command": pack_command})


@asynccontextmanager
async def open_connection(url: str, *, name: str) -> AsyncIterator[Connection]:
    """Open the asyncio loop that redis-py needs and a client in it; nothing is sent until the first call."""
    async with trio_asyncio.open_loop():
        pool = redis.asyncio.ConnectionPool.from_url(
            url,
            client_name=name,
            socket_timeout=None,  # every call has its own bound, in Trio
            socket_connect_timeout=CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),  # the default repeats every command ten times, pops included
            health_check_interval=0,
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        pool.connection_class = _quickly_packing(pool.connection_class)
        client = redis.asyncio.Redis.from_pool(pool)
        try:
            yield Connection(client)
        finally:
            with trio.move_on_after(CLOSE_SECONDS) as closing:
                closing.shield = True
                await trio_asyncio.aio_as_trio(client.aclose)()
