"""The watchdog: a slow loop keeps its tasks, one that stands still for too long loses them."""

import time
from typing import Any

import trio

from taskward.broker.blocking import BlockingConnection, finished
from taskward.broker.lifeline import Lifeline
from taskward.config import Config
from taskward.events import LeaseWasLost, LoopStalled, TaskReaped
from taskward.task import State
from taskward.worker.watchdog import Watchdog
from tests.worker.workshop import Workshop

LEASE_MS = 600


def watchdog(workshop: Workshop, pool: Any, *, limit: float) -> Watchdog:
    return Watchdog(
        lifeline=Lifeline(Config(redis_url=workshop.redis_url, queue=workshop.queue, lease_ms=LEASE_MS)),
        held=pool.held,
        lease_seconds=LEASE_MS / 1000,
        limit=limit,
        observe=workshop.said,
    )


async def test_a_handler_that_blocks_the_loop_keeps_its_lease(workshop: Workshop) -> None:
    @workshop.app.task()
    async def blocking(payload: Any) -> str:
        time.sleep(4 * LEASE_MS / 1000)  # noqa: ASYNC251 - that is the point
        return "slow, not dead"

    async with workshop.working(lease_ms=LEASE_MS) as pool:
        dog = watchdog(workshop, pool, limit=60)
        with dog.watching():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(dog.beat)
                id = await workshop.submit("blocking")
                await trio.sleep(0.05)
                assert await workshop.broker.reap() == []  # right after the stall: it is still ours
                task = await workshop.until(id)
                assert dog.loop_blocked
                nursery.cancel_scope.cancel()
    assert (task.state, task.result, task.reaps) == (State.SUCCEEDED, "slow, not dead", 0)
    (stalled,) = workshop.said.of(LoopStalled)
    assert "time.sleep(4 * LEASE_MS / 1000)" in stalled.stack
    assert stalled.tasks == (id,)


async def test_past_its_limit_the_watchdog_lets_go(workshop: Workshop) -> None:
    reaped: list[TaskReaped] = []

    @workshop.app.task()
    async def hanging(payload: Any) -> None:
        time.sleep(3 * LEASE_MS / 1000)  # noqa: ASYNC251 - that is the point
        reaped.extend(reap_from_outside(workshop))  # another worker's reaper, while this loop still hangs

    async with workshop.working(lease_ms=LEASE_MS) as pool:
        dog = watchdog(workshop, pool, limit=0.0)
        with dog.watching():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(dog.beat)
                id = await workshop.submit("hanging", max_attempts=1)
                lost = await workshop.said.wait_for(LeaseWasLost)
                pool._claiming = False
                nursery.cancel_scope.cancel()
    assert reaped[0] == TaskReaped(id, "default", "queued")  # and then this worker may well claim it again
    assert lost.lease.id == id


def reap_from_outside(workshop: Workshop) -> list[TaskReaped]:
    """Over a blocking connection, as the loop hangs."""
    connection = BlockingConnection(workshop.redis_url, name="tests", queue=workshop.queue)
    try:
        return finished(workshop.broker.over(connection).reap())
    finally:
        connection.close()
