"""From a submission to its start, one at a time; and what an idle worker costs."""

import time

import trio

from bench.processes import Process
from bench.report import Reading, percentile
from bench.server import Server
from bench.setup import Setup
from taskward.client.local import AsyncClient, open_client

PAUSE_SECONDS = 0.02
WAIT_SECONDS = 10.0
SETTLE_SECONDS = 1.0


def idle(setup: Setup) -> list[Reading]:
    """Submit to start on an idle worker, one task at a time; CPU of the idle worker."""
    with setup.worker_on_server() as (on, worker):
        cpu = _idle_cpu(worker, setup.seconds(10))
        waits = trio.run(_waits, on, setup.tasks(500))
    return [
        Reading("idle: submit to start, p50", "ms", percentile(waits, 50)),
        Reading("idle: submit to start, p99", "ms", percentile(waits, 99)),
        Reading("idle worker CPU", "% of a core", cpu),
    ]


async def _waits(on: Server, n: int) -> list[float]:
    async with open_client(on.url) as client:
        for _ in range(5):
            await one_wait(client)
        waits = []
        for _ in range(n):
            waits.append(await one_wait(client))
            await trio.sleep(PAUSE_SECONDS)
        return waits


def _idle_cpu(worker: Process, seconds: float) -> float:
    time.sleep(min(SETTLE_SECONDS, seconds))
    before = worker.cpu_seconds
    time.sleep(seconds)
    return 100 * (worker.cpu_seconds - before) / seconds


async def one_wait(client: AsyncClient, *, priority: str = "default") -> float:
    """Milliseconds from before `submit` to the first line of the handler."""
    sent = time.time_ns()
    submitted = await client.submit("stamp", priority=priority)
    task = await client.wait(submitted.id, seconds=WAIT_SECONDS)
    assert isinstance(task.result, int), task
    return (task.result - sent) / 1e6
