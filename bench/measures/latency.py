"""From a submission to its start, one at a time; and what an idle worker costs."""

import time

import trio

from bench.processes import Process
from bench.report import Reading, percentile
from bench.server import Server
from bench.setup import Setup
from taskward.client import BlockingClient, open_blocking_client
from taskward.client.local import AsyncClient, open_client
from taskward.client.view import TaskView

PAUSE_SECONDS = 0.02
# So soon after the one before, the processors' caches still know what they did.
SHORT_PAUSE_SECONDS = 0.002
# The first ones open connections.
WARM = 5
WAIT_SECONDS = 10.0
SETTLE_SECONDS = 1.0


def idle(setup: Setup) -> list[Reading]:
    """Submit to start on an idle worker, one task at a time; CPU of the idle worker."""
    n = setup.tasks(500)
    with setup.worker_on_server() as (on, worker):
        cpu = _idle_cpu(worker, setup.seconds(10))
        with open_blocking_client(on.url) as client:
            waits = {
                "BlockingClient": _waits(client, n, pause=PAUSE_SECONDS),
                "BlockingClient, 2 ms after the one before": _waits(client, n, pause=SHORT_PAUSE_SECONDS),
                "AsyncClient": trio.run(_async_waits, on, n),
            }
    return [
        *(
            Reading(f"idle: submit by {name} to start, p{percent}", "ms", percentile(seen, percent))
            for name, seen in waits.items()
            for percent in (50, 99)
        ),
        Reading("idle worker CPU", "% of a core", cpu),
    ]


def _waits(client: BlockingClient, n: int, *, pause: float) -> list[float]:
    waits = []
    for _ in range(WARM + n):
        sent = time.time_ns()
        submitted = client.submit("stamp")
        waits.append(_waited(client.wait(submitted.id, seconds=WAIT_SECONDS), sent))
        time.sleep(pause)
    return waits[WARM:]


async def _async_waits(on: Server, n: int) -> list[float]:
    waits = []
    async with open_client(on.url) as client:
        for _ in range(WARM + n):
            waits.append(await one_wait(client))
            await trio.sleep(PAUSE_SECONDS)
    return waits[WARM:]


def _idle_cpu(worker: Process, seconds: float) -> float:
    time.sleep(min(SETTLE_SECONDS, seconds))
    before = worker.cpu_seconds
    time.sleep(seconds)
    return 100 * (worker.cpu_seconds - before) / seconds


async def one_wait(client: AsyncClient, *, priority: str = "default") -> float:
    """Milliseconds from before `submit` to the first line of the handler."""
    sent = time.time_ns()
    submitted = await client.submit("stamp", priority=priority)
    return _waited(await client.wait(submitted.id, seconds=WAIT_SECONDS), sent)


def _waited(task: TaskView, sent_ns: int) -> float:
    assert isinstance(task.result, int), task
    return (task.result - sent_ns) / 1e6
