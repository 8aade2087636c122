"""SAQ.

Results kept 600 s; three attempts instead of one, without which the tasks of a dead worker are aborted; stuck ones are
looked for once a minute.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import tally
from saq import Queue

queue = Queue.from_url(os.environ["BENCH_REDIS"])


async def noop(_ctx: Any, *, argument: int | str) -> None:
    """Do nothing."""
    tally.did(argument if isinstance(argument, int) else 0)


async def sleep10(_ctx: Any, *, argument: int) -> None:
    """Wait ten milliseconds."""
    await asyncio.sleep(0.01)
    tally.did(argument)


async def nap(_ctx: Any, *, argument: int) -> None:
    """Wait long enough to be killed in it."""
    await asyncio.sleep(0.2)
    tally.did(argument)


async def stamp(_ctx: Any, *, argument: int) -> None:
    """Tell how long the start took."""
    tally.did(tally.since(argument))


settings = {
    "queue": queue,
    "functions": [noop, sleep10, nap, stamp],
    "concurrency": int(os.environ.get("BENCH_CONCURRENCY", "10")),
}


@contextlib.asynccontextmanager
async def session() -> AsyncIterator[None]:
    await queue.connect()
    yield
    await queue.disconnect()


async def one(task: str, argument: int | str) -> None:
    await queue.enqueue(task, argument=argument, retries=3)


def worker(concurrency: int) -> list[str]:
    os.environ["BENCH_CONCURRENCY"] = str(concurrency)
    return ["saq", "peer_saq.settings", "--quiet"]
