"""Cancel a worker at its first, second, third ... checkpoint: no task is lost, none is in two places."""

from collections import Counter

import pytest
import trio

from taskward.broker.broker import Broker
from taskward.broker.connection import Connection
from taskward.events import ignore
from tests.worker.workshop import PRIORITIES, TERMS, Workshop

TASKS = 6


class CancelAt(trio.abc.Instrument):
    """Cancels `scope` when the task that is watched takes its n-th step."""

    def __init__(self, scope: trio.CancelScope, n: int) -> None:
        self._scope = scope
        self._left = n
        self.reached = False

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if "Pool" in task.name or "work" in task.name or "_listen" in task.name:
            self._left -= 1
            if self._left == 0:
                self.reached = True
                self._scope.cancel()


@pytest.mark.parametrize("start", range(0, 60, 10))
async def test_no_task_is_lost_wherever_a_pool_is_cancelled(
    workshop: Workshop, connection: Connection, start: int
) -> None:
    @workshop.app.task()
    async def work(payload: int) -> int:
        await trio.lowlevel.checkpoint()
        if payload == 2:
            raise ValueError
        return payload

    for step in range(start + 1, start + 11):
        ids = [await workshop.submit("work", n) for n in range(TASKS)]
        pool = workshop.pool(worker=f"w{step}", concurrency=3)
        with trio.CancelScope() as scope:
            saboteur = CancelAt(scope, step)
            trio.lowlevel.add_instrument(saboteur)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pool.run)
                    with trio.move_on_after(0.5):
                        while not all([(await workshop.task(id)).terminal for id in ids]):
                            await trio.sleep(0.005)
                    nursery.cancel_scope.cancel()
            finally:
                trio.lowlevel.remove_instrument(saboteur)
        places = await where(workshop, ids)
        assert Counter(places.values()) == Counter({1: TASKS}), (step, places)
        await finish(connection, workshop, ids)


async def where(workshop: Workshop, ids: list[str]) -> dict[str, int]:
    """How many places hold each id."""
    keys = workshop.broker.keys
    places = [keys("running"), keys("done")]
    for family in ("ready", "scheduled", "retry", "dead"):
        places += keys.family(family)
    found: dict[str, int] = dict.fromkeys(ids, 0)
    for place in places:
        for member in await workshop.connection.command("ZRANGE", place, 0, -1):
            if member.decode() in found:
                found[member.decode()] += 1
    return found


async def finish(connection: Connection, workshop: Workshop, ids: list[str]) -> None:
    """What the cancelled worker held is taken back and run by another, as after a crash."""
    for id in await connection.command("ZRANGE", workshop.broker.keys("running"), 0, -1):
        await connection.command("ZADD", workshop.broker.keys("running"), 1, id)
    reaping = Broker(connection, queue=workshop.queue, priorities=PRIORITIES, terms=TERMS, observe=ignore)
    await reaping.reap()
    async with workshop.working(worker="rescuer"):
        for id in ids:
            await workshop.until(id)
