"""Tasks a second: no-ops and short sleeps, one worker and several, one server and two."""

import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple

import trio

from bench.processes import Process
from bench.report import Reading
from bench.server import PRIORITIES, Server
from bench.setup import Setup
from bench.store import open_broker, preload
from taskward.broker.broker import Broker
from taskward.broker.messages import Settlement
from taskward.policy.retry import Complete
from taskward.task import Spec

NOOP = Spec(type="noop", payload={"n": 1})
SLEEP = Spec(type="sleep10", payload={"n": 1})
LOOK_SECONDS = 0.02
PATIENCE_SECONDS = 60.0
AT_ONCE = 4


class Drained(NamedTuple):
    """Tasks a second by the store's times; microseconds a task of the workers, the server, and its scripts."""

    rate: float
    worker_us: float
    server_us: float
    script_us: float


def noop(setup: Setup) -> list[Reading]:
    """No-op tasks/s of one worker at concurrency 10, 100 and 400."""
    readings = []
    for concurrency, full in ((10, 60_000), (100, 120_000), (400, 120_000)):
        with setup.worker_on_server(concurrency=concurrency) as (on, worker):
            drained = drain(on, [worker], setup.tasks(full), NOOP)
        name = f"no-op, concurrency {concurrency}"
        readings += [
            Reading(name, "tasks/s", drained.rate),
            Reading(f"{name}: worker CPU", "us a task", drained.worker_us),
            Reading(f"{name}: server CPU", "us a task", drained.server_us),
        ]
    return readings


def sleep(setup: Setup) -> list[Reading]:
    """10 ms sleeps at concurrency 100: 10,000/s is ideal; and what Trio's timers alone allow."""
    with setup.worker_on_server() as (on, worker):
        drained = drain(on, [worker], setup.tasks(30_000), SLEEP)
    return [
        Reading("10 ms sleeps, concurrency 100 (ideal 10,000)", "tasks/s", drained.rate),
        Reading("100 bare Trio tasks that do nothing but sleep 10 ms", "sleeps/s", trio.run(_sleeps, setup.seconds(3))),
    ]


async def _sleeps(seconds: float) -> float:
    until, slept = trio.current_time() + seconds, 0

    async def sleep_on() -> None:
        nonlocal slept
        while trio.current_time() < until:
            await trio.sleep(0.01)
            slept += 1

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(sleep_on)
    return slept / seconds


def scale(setup: Setup) -> list[Reading]:
    """No-ops with 1, 2 and 4 workers on one server, on two servers; and what one server can bear."""
    readings = []
    for count in (1, 2, 4):
        with setup.server() as on, ExitStack() as stack:
            workers = [stack.enter_context(setup.worker(on)) for _ in range(count)]
            drained = drain(on, workers, setup.tasks(100_000 * min(count, 2)), NOOP)
        name = f"no-op, {count} worker{'s' if count > 1 else ''}"
        readings += [
            Reading(name, "tasks/s", drained.rate),
            Reading(f"{name}: workers' CPU", "us a task", drained.worker_us),
            Reading(f"{name}: server CPU", "us a task", drained.server_us),
            Reading(f"{name}: of that in scripts", "us a task", drained.script_us),
        ]
    readings.append(Reading("no-op, 2 servers, a worker each", "tasks/s", _two_servers(setup)))
    for together in (64, 256):
        us = _life(setup, together)
        name = f"one server, no worker: {together} ended and claimed a call"
        readings += [
            Reading(f"{name}: server CPU", "us a task", us),
            Reading(f"{name}: what its core can bear", "tasks/s", 1e6 / us),
        ]
    return readings


def drain(on: Server, workers: Sequence[Process], n: int, spec: Spec) -> Drained:
    """Fill the store with `n` tasks while nobody may claim them, then let all workers at them at once.

    Nothing may have ended in this store before.
    """
    fill(on, n, spec)
    return let_go(on, workers, n)


def fill(on: Server, n: int, spec: Spec) -> None:
    """Tasks that nobody may claim yet."""
    on.hold()
    preload(on, n, spec)
    on.client.config_resetstat()


def let_go(on: Server, workers: Sequence[Process], n: int) -> Drained:
    """Let all workers at what `fill` has put there."""
    cpu, server_cpu = sum(worker.cpu_seconds for worker in workers), on.cpu_seconds
    on.release(workers=len(workers))
    until_done(on, n)
    return Drained(
        on.done_rate(),
        (sum(worker.cpu_seconds for worker in workers) - cpu) / n * 1e6,
        (on.cpu_seconds - server_cpu) / n * 1e6,
        on.script_seconds / n * 1e6,
    )


def _two_servers(setup: Setup) -> float:
    n = setup.tasks(100_000)
    with setup.worker_on_server() as (one, worker), setup.worker_on_server() as (other, another):
        for on in (one, other):
            fill(on, n, NOOP)
        with ThreadPoolExecutor() as threads:
            drained = threads.map(let_go, (one, other), ([worker], [another]), (n, n))
        return sum(each.rate for each in drained)


def _life(setup: Setup, together: int) -> float:
    """The server's microseconds for a task's claim and end, where nobody waits for anything but the server."""
    n = setup.tasks(100_000)
    with setup.server() as on:
        preload(on, n, NOOP)
        before = on.cpu_seconds
        trio.run(_live, on.url, together)
        assert on.done() == n
        return (on.cpu_seconds - before) / n * 1e6


async def _live(url: str, together: int) -> None:
    """Several at a time, so that the server always has something to do."""
    async with open_broker(url) as broker, trio.open_nursery() as nursery:
        for n in range(AT_ONCE):
            nursery.start_soon(_settle_and_claim, broker, f"bench-{n}", together)


async def _settle_and_claim(broker: Broker, worker: str, together: int) -> None:
    shares = [together // len(PRIORITIES)] * len(PRIORITIES)
    settlements: list[Settlement] = []
    for number in itertools.count(1):
        step = await broker.step(settlements, worker=worker, number=number, shares=shares, wanted=together)
        settlements = [Settlement(lease, Complete(b"null")) for lease in step.leases]
        if not settlements:
            return


def until_done(on: Server, n: int) -> None:
    """Wait until so many tasks have ended. Raises RuntimeError where nothing ends for long."""
    seen, give_up = 0, time.monotonic() + PATIENCE_SECONDS
    while (done := on.done()) < n:
        if done > seen:
            seen, give_up = done, time.monotonic() + PATIENCE_SECONDS
        if time.monotonic() > give_up:
            raise RuntimeError(f"{done} of {n} tasks done, and none for {PATIENCE_SECONDS:g} s")
        time.sleep(LOOK_SECONDS)
