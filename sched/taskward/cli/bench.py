"""`taskward bench`: what this installation can do, in a few seconds, on REDIS_URL and in a queue of its own."""

import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import trio
import uuid_utils

from taskward import __version__
from taskward.app import App
from taskward.broker.broker import MOST_PER_CALL, Broker
from taskward.broker.connection import open_connection
from taskward.broker.keys import FAMILIES, NAMED
from taskward.cli.check import without_password
from taskward.cli.process import new_instance_id
from taskward.cli.worker import keeper_of, pool_of
from taskward.config import Config
from taskward.errors import ConfigError
from taskward.task import Spec, Submission
from taskward.telemetry.metrics import Metrics

PINGS = 200
PAUSE_SECONDS = 0.01
CLEAN_UP_SECONDS = 10.0
DRAIN_SECONDS = 5.0


def run(config: Config, *, tasks: int, samples: int) -> int:
    """Print what was measured; nothing stays in Redis. -> 0. Raises ConfigError, BrokerUnavailable, BrokerRefused."""
    if tasks < 1 or samples < 1:
        raise ConfigError("--tasks and --samples: at least 1")
    queue = f"bench-{secrets.token_hex(4)}"
    trio.run(_run, replace(config, queue=queue, max_queue_depth=0), tasks, samples)
    return 0


async def _run(config: Config, tasks: int, samples: int) -> None:
    worker_id = new_instance_id()
    work = _Work()
    metrics = Metrics(
        "worker",
        priorities=config.priority_names,
        types=sorted(work.app.handlers),
        instance_id=worker_id,
        version=__version__,
    )
    async with open_connection(config.redis_url, name="taskward-bench", queue=config.queue) as connection:
        broker = Broker.of(config, connection, observe=metrics.observe)
        for warning in await broker.check():
            print(f"warning: {warning}")
        print(f"Redis at {without_password(config.redis_url)}, one worker with {config.worker_concurrency} slots.")
        try:
            _print("round trip, median", f"{await _round_trip(broker) * 1000:.3f} ms")
            seconds = await _submit(broker, work.noops(tasks, config.priority_names))
            _print(f"submissions, batches of {MOST_PER_CALL}", f"{tasks / seconds:,.0f} tasks/s")
            async with _worker(config, broker, work.app, worker_id, metrics):
                began = time.perf_counter()
                await work.until_done(tasks)
                _print("no-op tasks", f"{tasks / (time.perf_counter() - began):,.0f} tasks/s")
                waits = [await work.wait(broker, config.priority_names) for _ in range(samples)]
            low, high = (1000 * _percentile(waits, percent) for percent in (50, 99))
            _print("submit to start, one at a time", f"p50 {low:.2f} ms, p99 {high:.2f} ms")
        finally:
            with trio.move_on_after(CLEAN_UP_SECONDS, shield=True):
                await _remove(broker)


class _Work:
    """The handlers, and what they have seen. Submitting and running share this process and its one loop."""

    def __init__(self) -> None:
        self.app = App()
        self._done = 0
        self._wanted = 0
        self._reached = trio.Event()
        self._started = 0.0
        self.app.task("noop")(self._noop)
        self.app.task("stamp")(self._stamp)

    async def _noop(self, _payload: Any) -> None:
        self._done += 1
        if self._done == self._wanted:
            self._reached.set()

    async def _stamp(self, _payload: Any) -> None:
        self._started = time.perf_counter()
        self._reached.set()

    def noops(self, n: int, priorities: Sequence[str]) -> list[Submission]:
        """Of the middle priority."""
        self._wanted = n
        return [_submission("noop", priorities) for _ in range(n)]

    async def until_done(self, n: int) -> None:
        """Wait until so many have run."""
        if self._done < n:
            await self._reached.wait()

    async def wait(self, broker: Broker, priorities: Sequence[str]) -> float:
        """Seconds from a submission to its start on an idle worker."""
        await trio.sleep(PAUSE_SECONDS)
        self._reached = trio.Event()
        began = time.perf_counter()
        await broker.submit([_submission("stamp", priorities)])
        await self._reached.wait()
        return self._started - began


@asynccontextmanager
async def _worker(config: Config, broker: Broker, app: App, worker_id: str, metrics: Metrics) -> AsyncIterator[None]:
    pool = pool_of(config, app=app, broker=broker, worker_id=worker_id, observe=metrics.observe)
    keeper = keeper_of(config, broker=broker, pool=pool, observe=metrics.observe)
    async with trio.open_nursery() as keeping:
        keeping.start_soon(keeper.run)
        async with trio.open_nursery() as working:
            working.start_soon(pool.run)
            yield
            await pool.drain(grace=DRAIN_SECONDS, cancel_grace=DRAIN_SECONDS)
        keeping.cancel_scope.cancel()


async def _round_trip(broker: Broker) -> float:
    seconds = []
    for _ in range(PINGS):
        began = time.perf_counter()
        await broker.connection.command("PING")
        seconds.append(time.perf_counter() - began)
    return _percentile(seconds, 50)


async def _submit(broker: Broker, submissions: Sequence[Submission]) -> float:
    """-> the seconds it took."""
    began = time.perf_counter()
    for first in range(0, len(submissions), MOST_PER_CALL):
        await broker.submit(submissions[first : first + MOST_PER_CALL])
    return time.perf_counter() - began


async def _remove(broker: Broker) -> None:
    names = [broker.keys(name) for name in sorted(NAMED)]
    families = [key for family in FAMILIES for key in broker.keys.family(family)]
    await broker.connection.command("UNLINK", *names, *families)


def _submission(type: str, priorities: Sequence[str]) -> Submission:
    return Submission(str(uuid_utils.uuid7()), Spec(type=type, priority=priorities[len(priorities) // 2]))


def _percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def _print(what: str, value: str) -> None:
    print(f"  {what:<34} {value}", flush=True)
