"""Drives one peer from inside its own environment: `python run.py PEER VERB ...`.

    worker CONCURRENCY     become its worker
    fill TASK N            submit N numbered tasks, by whatever way it has
    single N               submit N tasks one by one; prints the seconds
    bulk N                 the same in batches; prints the seconds, or - where it has no batches
    latency N              submit `stamp` N times, each when the one before has run

An adapter `peer_NAME.py` says in its docstring how it is configured and what it keeps, has the tasks `noop`, `sleep10`,
`nap` and `stamp`, and

    worker(concurrency)    the command of a worker
    one(task, argument)    submit one (plain or async)
    many                   submit (task, arguments) together, None where there is no way to
    session()              an async context in which both work
    loop(function, *args)  runs an async function

What has no batches, or no session, leaves the name out.
"""

import asyncio
import contextlib
import importlib
import inspect
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

TEXT = "x" * 100
BATCH = 500
PAUSE_SECONDS = 0.02
LOOK_SECONDS = 0.0005
PATIENCE_SECONDS = 10.0


def main(name: str, verb: str, *words: str) -> None:
    adapter = importlib.import_module(f"peer_{name}")
    if verb == "worker":
        command = adapter.worker(int(words[0]))
        os.execvp(command[0], command)
    loop = getattr(adapter, "loop", _asyncio)
    print(loop(_in_session, adapter, VERBS[verb], *words))


async def fill(adapter: Any, task: str, n: str) -> str:
    """Numbered, so that what is missing can be named."""
    numbers = range(1, int(n) + 1)
    if hasattr(adapter, "many"):
        for first in range(0, len(numbers), BATCH):
            await _awaited(adapter.many(task, list(numbers[first : first + BATCH])))
    else:
        for number in numbers:
            await _awaited(adapter.one(task, number))
    return n


async def single(adapter: Any, n: str) -> float:
    """One client, one after the other."""
    began = time.perf_counter()
    for _ in range(int(n)):
        await _awaited(adapter.one("noop", TEXT))
    return time.perf_counter() - began


async def bulk(adapter: Any, n: str) -> float | str:
    """One client, in batches of 500."""
    if not hasattr(adapter, "many"):
        return "-"
    arguments = [TEXT] * BATCH
    began = time.perf_counter()
    for _ in range(0, int(n), BATCH):
        await _awaited(adapter.many("noop", arguments))
    return time.perf_counter() - began


async def latency(adapter: Any, n: str) -> str:
    """The waits themselves are in the tally."""
    tally = Path(os.environ["BENCH_TALLY"])
    for number in range(1, int(n) + 1):
        await _awaited(adapter.one("stamp", time.time_ns()))
        _until_ran(tally, number)
    return n


VERBS: dict[str, Callable[..., Awaitable[Any]]] = {"fill": fill, "single": single, "bulk": bulk, "latency": latency}


def _until_ran(tally: Path, n: int) -> None:
    """Until so many have; and then a moment for the worker to be idle again. Nothing else is to run meanwhile."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while tally.stat().st_size < 16 * n:
        if time.monotonic() > give_up:
            raise SystemExit(f"task {n} did not start within {PATIENCE_SECONDS:g} s")
        time.sleep(LOOK_SECONDS)
    time.sleep(PAUSE_SECONDS)


async def _in_session(adapter: Any, verb: Callable[..., Awaitable[Any]], *words: str) -> Any:
    async with getattr(adapter, "session", _no_session)():
        return await verb(adapter, *words)


@contextlib.asynccontextmanager
async def _no_session() -> AsyncIterator[None]:
    yield


async def _awaited(value: Any) -> None:
    if inspect.isawaitable(value):
        await value


def _asyncio(function: Callable[..., Any], *args: Any) -> Any:
    return asyncio.run(function(*args))


if __name__ == "__main__":
    main(*sys.argv[1:])
