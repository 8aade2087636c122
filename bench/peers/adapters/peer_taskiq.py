"""taskiq on Redis streams.

One process, streams (the broker that acknowledges), no result backend; what was not acknowledged returns after 10
min.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import tally
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(os.environ["BENCH_REDIS"])


@broker.task
async def noop(argument: int | str) -> None:
    """Do nothing."""
    tally.did(argument if isinstance(argument, int) else 0)


@broker.task
async def sleep10(number: int) -> None:
    """Wait ten milliseconds."""
    await asyncio.sleep(0.01)
    tally.did(number)


@broker.task
async def nap(number: int) -> None:
    """Wait long enough to be killed in it."""
    await asyncio.sleep(0.2)
    tally.did(number)


@broker.task
async def stamp(sent_ns: int) -> None:
    """Tell how long the start took."""
    tally.did(tally.since(sent_ns))


TASKS = {"noop": noop, "sleep10": sleep10, "nap": nap, "stamp": stamp}


@contextlib.asynccontextmanager
async def session() -> AsyncIterator[None]:
    await broker.startup()
    yield
    await broker.shutdown()


async def one(task: str, argument: int | str) -> None:
    await TASKS[task].kiq(argument)


def worker(concurrency: int) -> list[str]:
    options = ["--workers", "1", "--max-async-tasks", str(concurrency), "--log-level", "ERROR"]
    return ["taskiq", "worker", "peer_taskiq:broker", *options]
