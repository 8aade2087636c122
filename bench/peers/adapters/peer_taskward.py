"""Taskward, driven like the others.

Submitted by its blocking client; metrics on, results kept an hour; a lease lasts 30 s.
"""

import contextlib
import os
import sys
from collections.abc import AsyncIterator

import tally
import trio

from taskward import App
from taskward.client import BlockingClient, open_blocking_client
from taskward.client.fields import Item

app = App()


@app.task()
async def noop(argument: int | str) -> None:
    """Do nothing."""
    tally.did(argument if isinstance(argument, int) else 0)


@app.task()
async def sleep10(number: int) -> None:
    """Wait ten milliseconds."""
    await trio.sleep(0.01)
    tally.did(number)


@app.task()
async def nap(number: int) -> None:
    """Wait long enough to be killed in it."""
    await trio.sleep(0.2)
    tally.did(number)


@app.task()
async def stamp(sent_ns: int) -> None:
    """Tell how long the start took."""
    tally.did(tally.since(sent_ns))


_clients: list[BlockingClient] = []


@contextlib.asynccontextmanager
async def session() -> AsyncIterator[None]:
    with open_blocking_client(os.environ["BENCH_REDIS"]) as client:
        _clients.append(client)
        yield


def one(task: str, argument: int | str) -> None:
    _clients[0].submit(task, argument)


def many(task: str, arguments: list[int] | list[str]) -> None:
    _clients[0].submit_many([Item(type=task, payload=argument) for argument in arguments])


def worker(concurrency: int) -> list[str]:
    os.environ |= {"WORKER_CONCURRENCY": str(concurrency), "REDIS_URL": os.environ["BENCH_REDIS"]}
    os.environ["METRICS_ADDR"] = "127.0.0.1:0"
    return [sys.executable, "-m", "taskward", "worker", "--app", "peer_taskward:app"]
