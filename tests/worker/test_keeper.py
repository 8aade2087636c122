"""The keeper: leases, cancels and handlers that do not let go."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from taskward import Context
from taskward.broker.connection import Connection
from taskward.errors import BrokerUnavailable
from taskward.events import HandlerStuck, LeaseWasLost, TaskSettled, TaskStarted
from taskward.policy.retry import Stopped
from taskward.task import CancelCause, State
from tests.worker.workshop import Workshop


class CutOff(Connection):
    """A connection over which nothing comes any more."""

    def __init__(self) -> None:
        pass

    async def _call(self, parts: tuple[Any, ...], *, patience: float = 0.0) -> Any:
        raise BrokerUnavailable

    @asynccontextmanager
    async def subscription(self, channel: str) -> AsyncIterator[Any]:
        raise BrokerUnavailable
        yield


async def test_a_worker_that_cannot_renew_stops_its_handlers_before_the_lease_ends(workshop: Workshop) -> None:
    stopped_ms = 0

    @workshop.app.task()
    async def held(payload: Any) -> None:
        nonlocal stopped_ms
        try:
            await trio.sleep_forever()
        finally:
            stopped_ms = time.time_ns() // 1_000_000

    async with workshop.working(lease_ms=1500, keeper_connection=CutOff()) as pool:
        id = await workshop.submit("held")
        lease_expires_ms = (await workshop.until(id, State.RUNNING)).lease_expires_ms
        await workshop.said.wait_for(TaskStarted)
        pool._claiming = False
        settled = await workshop.said.wait_for(TaskSettled)
        task = await workshop.task(id)
    assert lease_expires_ms is not None
    assert 0 < stopped_ms < lease_expires_ms
    assert settled.outcome == Stopped(CancelCause.LEASE_LOST)
    assert (task.state, task.attempt) == (State.QUEUED, 0)  # given back: nobody had taken it yet


async def test_a_handler_that_ignores_its_cancellation_is_reported_and_keeps_its_slot(workshop: Workshop) -> None:
    let_go = trio.Event()

    @workshop.app.task()
    async def deaf(payload: Any) -> None:
        with trio.CancelScope(shield=True):
            await let_go.wait()

    async with workshop.working(concurrency=1, cancel_grace=0.1) as pool:
        id = await workshop.submit("deaf")
        await workshop.until(id, State.RUNNING)
        await workshop.broker.cancel(id, cause="user")
        stuck = await workshop.said.wait_for(HandlerStuck)
        assert (stuck.lease.id, stuck.cause) == (id, "user")
        assert "let_go.wait()" in stuck.stack
        assert pool.busy == 1
        assert (await workshop.task(id)).state is State.CANCELLING
        let_go.set()
        assert (await workshop.until(id)).state is State.SUCCEEDED  # it did its work, late
        assert len(workshop.said.of(HandlerStuck)) == 1


async def test_a_thread_handler_can_look_whether_it_is_cancelled(workshop: Workshop) -> None:
    @workshop.app.task()
    def loop(payload: Any, ctx: Context) -> None:
        while True:
            time.sleep(0.005)
            ctx.check_cancelled()

    async with workshop.working():
        id = await workshop.submit("loop")
        await workshop.until(id, State.RUNNING)
        await workshop.broker.cancel(id, cause="user")
        task = await workshop.until(id)
    assert (task.state, task.cancel_cause) == (State.CANCELLED, "user")


async def test_a_stuck_thread_is_reported_where_it_is(workshop: Workshop) -> None:
    @workshop.app.task()
    def sleepy_head(payload: Any) -> None:
        time.sleep(0.7)

    async with workshop.working(cancel_grace=0.1):
        id = await workshop.submit("sleepy_head", timeout_ms=50, max_attempts=1)
        stuck = await workshop.said.wait_for(HandlerStuck)
        assert "time.sleep(0.7)" in stuck.stack
        await workshop.until(id)


async def test_a_cancel_reaches_a_running_handler_at_once(workshop: Workshop) -> None:
    @workshop.app.task()
    async def endless(payload: Any) -> None:
        await trio.sleep_forever()

    async with workshop.working():
        took = []
        for _ in range(5):
            id = await workshop.submit("endless")
            await workshop.until(id, State.RUNNING)
            began = trio.current_time()
            await workshop.broker.cancel(id, cause="user")
            await workshop.said.wait_for(TaskSettled, count=len(took) + 1)
            took.append(trio.current_time() - began)
    # Far below the seconds that the next renewal would take.
    assert sorted(took)[2] < 0.5, took


async def test_a_refused_progress_report_is_a_lost_lease(workshop: Workshop) -> None:
    @workshop.app.task()
    async def reporting(payload: Any, ctx: Context) -> None:
        for n in range(1000):
            ctx.progress(n)
            await trio.sleep(0.05)

    async with workshop.working(lease_ms=60_000) as pool:
        id = await workshop.submit("reporting")
        await workshop.said.wait_for(TaskStarted)
        pool._claiming = False
        await workshop.connection.command("ZADD", workshop.broker.keys("running"), 1, id)
        await workshop.broker.reap()
        lost = await workshop.said.wait_for(LeaseWasLost)
    assert lost.op == "progress"
