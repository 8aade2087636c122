"""arq.

Polls every 10 ms instead of 500; results kept an hour; a dead worker's tasks return after 310 s.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import tally
from arq import create_pool, func
from arq.connections import ArqRedis, RedisSettings

SETTINGS = RedisSettings.from_dsn(os.environ["BENCH_REDIS"])


async def noop(_ctx: dict[Any, Any], argument: int | str) -> None:
    """Do nothing."""
    tally.did(argument if isinstance(argument, int) else 0)


async def sleep10(_ctx: dict[Any, Any], number: int) -> None:
    """Wait ten milliseconds."""
    await asyncio.sleep(0.01)
    tally.did(number)


async def nap(_ctx: dict[Any, Any], number: int) -> None:
    """Wait long enough to be killed in it."""
    await asyncio.sleep(0.2)
    tally.did(number)


async def stamp(_ctx: dict[Any, Any], sent_ns: int) -> None:
    """Tell how long the start took."""
    tally.did(tally.since(sent_ns))


class WorkerSettings:
    """What `arq` reads."""

    functions: ClassVar = [func(function, name=function.__name__) for function in (noop, sleep10, nap, stamp)]
    redis_settings = SETTINGS
    max_jobs = int(os.environ.get("BENCH_CONCURRENCY", "10"))
    poll_delay = 0.01


_pools: list[ArqRedis] = []


@contextlib.asynccontextmanager
async def session() -> AsyncIterator[None]:
    _pools.append(await create_pool(SETTINGS))
    yield
    await _pools.pop().aclose()


async def one(task: str, argument: int | str) -> None:
    await _pools[0].enqueue_job(task, argument)


def worker(concurrency: int) -> list[str]:
    os.environ["BENCH_CONCURRENCY"] = str(concurrency)
    return ["arq", "peer_arq.WorkerSettings"]
