"""Waits and answers while a worker is busy."""

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from bench.measures.latency import one_wait
from bench.measures.throughput import NOOP, until_done
from bench.processes import ROOT, environment
from bench.report import Reading, percentile
from bench.server import KEYS, Server
from bench.setup import Setup
from bench.store import open_broker, preload, submissions
from taskward.broker.broker import MOST_PER_CALL, Broker
from taskward.client.local import open_client
from taskward.task import Spec, Submission

SHARE = 0.7
# While the most is looked for, so many tasks wait: enough that no slot does.
WAITING = 2000
TICK_SECONDS = 0.005
STAMP = Spec(type="stamp")
BURN = Spec(type="burn")
BACKLOG = Spec(type="sleep10", priority="low")
PAUSE_SECONDS = 0.02
# Lasts a second: 100 slots, 10 ms each.
LEAST_BACKLOG = 10_000
# What one look at a port takes, with the pause after it, or a little more.
LOOK_SECONDS = 0.03
# More than a worker can do meanwhile.
MOST_A_LOOK = 3000


def under_load(setup: Setup) -> list[Reading]:
    """At 70 % of what is sustained with a submitter beside it: submit to start; scrapes; GET /metrics/summary."""
    seconds, looks = setup.seconds(10), setup.tasks(500)
    with setup.worker_on_server() as (on, worker), setup.api(on) as api:
        maximum = trio.run(_sustained, on, setup.seconds(4))
        rate = SHARE * maximum
        growing = trio.run(_submit_steadily, on, rate, seconds)
        _grow(on, roomy(on.done(), 1.1 * rate * seconds))
        waits = trio.run(_submit_steadily, on, rate, seconds)
        with _looking(worker.port, "/metrics", looks) as scrapes, _looking(api.port, "/metrics/summary", looks) as asks:
            trio.run(_submit_steadily, on, rate, LOOK_SECONDS * looks)
    each_second = [percentile(second, 99) for second in growing.in_seconds()]
    return [
        Reading("sustained, no-op, concurrency 100, with a submitter", "tasks/s", maximum),
        Reading("at 70 %: reached", "tasks/s", waits.rate),
        Reading("at 70 %: submit to start, p50", "ms", percentile(waits.milliseconds, 50)),
        Reading("at 70 %: submit to start, p99", "ms", percentile(waits.milliseconds, 99)),
        Reading("at 70 %, while the store doubles: submit to start, p99", "ms", percentile(growing.milliseconds, 99)),
        Reading("at 70 %, ...: p99 of a second, median", "ms", statistics.median(each_second)),
        Reading("at 70 %, ...: p99 of the worst second", "ms", max(each_second)),
        Reading("at 70 %: scrape, p99", "ms", scrapes["p99_ms"]),
        Reading("at 70 %: GET /metrics/summary, p99", "ms", asks["p99_ms"]),
    ]


def saturated(setup: Setup) -> list[Reading]:
    """500 scrapes, one after the other, of a worker that never waits for a task."""
    looks = setup.tasks(500)
    with setup.worker_on_server() as (on, worker):
        on.hold()
        preload(on, MOST_A_LOOK * looks, NOOP)
        on.release(workers=1)
        with _looking(worker.port, "/metrics", looks) as scrapes:
            pass
        rate = on.done_rate()
        if not on.client.zcard(KEYS.family("ready")[1]):
            raise RuntimeError("the worker had done everything before the last scrape")
    return [
        Reading("saturated, no-op, concurrency 100: while it is scraped", "tasks/s", rate),
        Reading(f"saturated: {looks} scrapes, p50", "ms", scrapes["p50_ms"]),
        Reading(f"saturated: {looks} scrapes, p99", "ms", scrapes["p99_ms"]),
    ]


def backlog(setup: Setup) -> list[Reading]:
    """How long `high` tasks wait while 100,000 `low` ones, of 10 ms each, keep every slot busy."""
    with setup.worker_on_server() as (on, _):
        preload(on, max(LEAST_BACKLOG, setup.tasks(100_000)), BACKLOG)
        waits = trio.run(_waits, on, setup.seconds(8), "high")
        if not on.client.zcard(KEYS.family("ready")[-1]):
            raise RuntimeError("the backlog was done before the last `high` task was submitted")
    return [
        Reading("behind a backlog of `low`: `high` submit to start, p50", "ms", percentile(waits, 50)),
        Reading("behind a backlog of `low`: `high` submit to start, p99", "ms", percentile(waits, 99)),
    ]


def burn(setup: Setup) -> list[Reading]:
    """Submit to start beside a thread handler that keeps a processor busy for 100 ms, four times a second."""
    with setup.worker_on_server() as (on, _):
        alone = trio.run(_waits, on, setup.seconds(5), "default")
        beside = trio.run(_waits_beside_burns, on, setup.seconds(10))
    return [
        Reading("submit to start, p99, alone", "ms", percentile(alone, 99)),
        Reading("submit to start, p99, beside 100 ms CPU threads", "ms", percentile(beside, 99)),
    ]


def roomy(count: int, more: float) -> int:
    """The least number of tasks, `count` at least, beside which so many `more` make no hash of the store double. Valkey
    doubles one when there are seven entries a bucket, and is done with it soon after.
    """
    full = 7
    while True:
        size = max(count, math.ceil(1.1 * full))
        if size + more < 2 * full:
            return size
        full *= 2


def _grow(on: Server, size: int) -> None:
    """Until so many tasks have ended."""
    preload(on, max(1, size - on.done()), NOOP)
    until_done(on, size)


class Steady:
    """Tasks submitted at a rate, and the waits of some of them, in the order in which they were submitted."""

    def __init__(self) -> None:
        self.rate = 0.0
        self.milliseconds: list[float] = []
        self.sent_ns: list[int] = []

    def in_seconds(self) -> list[list[float]]:
        """The waits by the second in which the task was submitted, empty seconds left out."""
        seconds: dict[int, list[float]] = {}
        for sent, wait in zip(self.sent_ns, self.milliseconds, strict=True):
            seconds.setdefault((sent - self.sent_ns[0]) // 10**9, []).append(wait)
        return list(seconds.values())


async def _sustained(on: Server, seconds: float) -> float:
    """Tasks ended a second while there is always a little waiting."""
    submitted = done = 0
    began = trio.current_time()
    async with open_broker(on.url) as broker:
        while (now := trio.current_time()) < began + seconds:
            done = int(await broker.connection.command("ZCARD", KEYS("done")))
            if submitted - done < WAITING:
                submitted += MOST_PER_CALL
                await broker.submit(submissions(MOST_PER_CALL, NOOP))
            else:
                await trio.sleep(TICK_SECONDS / 5)
    until_done(on, submitted)
    return done / (now - began)


async def _submit_steadily(on: Server, rate: float, seconds: float) -> Steady:
    """Open loop: what is due at a tick goes out together, whether or not the worker keeps up. One of them is timed."""
    steady = Steady()
    sent: dict[str, int] = {}
    submitted = 0
    async with open_broker(on.url) as broker:
        before = on.done()
        began = trio.current_time()
        while (now := trio.current_time()) < began + seconds:
            due = int(rate * (now - began)) - submitted
            if due > 0:
                submitted += due
                timed = submissions(1, STAMP)
                sent[timed[0].id] = time.time_ns()
                await _submit_parts(broker, timed + submissions(due - 1, NOOP))
            await trio.sleep_until(now + TICK_SECONDS)
        steady.rate = (on.done() - before) / (trio.current_time() - began)
    until_done(on, before + submitted)
    started = on.client.hmget(KEYS("result"), list(sent))
    steady.sent_ns = list(sent.values())
    steady.milliseconds = [(int(at or 0) - sent[id]) / 1e6 for id, at in zip(sent, started, strict=True)]
    return steady


async def _submit_parts(broker: Broker, tasks: list[Submission]) -> None:
    for first in range(0, len(tasks), MOST_PER_CALL):
        await broker.submit(tasks[first : first + MOST_PER_CALL])


async def _waits(on: Server, seconds: float, priority: str) -> list[float]:
    waits = []
    until = trio.current_time() + seconds
    async with open_client(on.url) as client:
        while trio.current_time() < until:
            waits.append(await one_wait(client, priority=priority))
            await trio.sleep(PAUSE_SECONDS)
    return waits


async def _waits_beside_burns(on: Server, seconds: float) -> list[float]:
    waits: list[float] = []
    async with open_broker(on.url) as broker, trio.open_nursery() as nursery:

        async def burn_now_and_then() -> None:
            while True:
                await broker.submit(submissions(1, BURN))
                await trio.sleep(0.25)

        nursery.start_soon(burn_now_and_then)
        waits = await _waits(on, seconds, "default")
        nursery.cancel_scope.cancel()
    return waits


@contextmanager
def _looking(port: int, path: str, times: int) -> Iterator[dict[str, float]]:
    """GETs by a process of its own while the block runs; what it saw is in the value afterwards."""
    seen: dict[str, float] = {}
    command = [sys.executable, "-m", "bench.http_load", str(port), "get", "--path", path, "--tasks", str(times)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        yield seen
        output, _ = process.communicate(timeout=60)
        seen |= json.loads(output)
    finally:
        process.kill()
        process.wait()
