"""streaQ.

On asyncio with uvloop; results kept 5 min; a dead worker's tasks return after 60 s.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import tally
from streaq import Worker

queue: Worker[Any] = Worker(
    redis_url=os.environ["BENCH_REDIS"],
    concurrency=int(os.environ.get("BENCH_CONCURRENCY", "10")),
    anyio_kwargs={"use_uvloop": True},
)


@queue.task()
async def noop(argument: int | str) -> None:
    """Do nothing."""
    tally.did(argument if isinstance(argument, int) else 0)


@queue.task()
async def sleep10(number: int) -> None:
    """Wait ten milliseconds."""
    await asyncio.sleep(0.01)
    tally.did(number)


@queue.task()
async def nap(number: int) -> None:
    """Wait long enough to be killed in it."""
    await asyncio.sleep(0.2)
    tally.did(number)


@queue.task()
async def stamp(sent_ns: int) -> None:
    """Tell how long the start took."""
    tally.did(tally.since(sent_ns))


TASKS = {"noop": noop, "sleep10": sleep10, "nap": nap, "stamp": stamp}


@contextlib.asynccontextmanager
async def session() -> AsyncIterator[None]:
    async with queue:
        yield


async def one(task: str, argument: int | str) -> None:
    await TASKS[task].enqueue(argument)


async def many(task: str, arguments: list[int] | list[str]) -> None:
    await queue.enqueue_many([TASKS[task].enqueue(argument) for argument in arguments])


def worker(concurrency: int) -> list[str]:
    os.environ["BENCH_CONCURRENCY"] = str(concurrency)
    return ["streaq", "run", "peer_streaq:queue"]
