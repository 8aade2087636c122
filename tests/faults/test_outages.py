"""Redis is away for a while: the API says so, the worker finishes what it runs, and both come back by themselves."""

from collections import Counter
from statistics import median

import pytest
import trio

from taskward.broker.connection import open_connection
from taskward.client import gateway
from taskward.events import LeaseWasLost, OutageBegan
from tests.faults.site import Site, cpu_share, outcomes


async def test_redis_is_restarted(site: Site) -> None:
    async with site.running():
        await site.rides_out(site.server.stop, site.server.start)


async def test_redis_is_killed(wired: Site) -> None:
    async with wired.running():
        await wired.rides_out(wired.server.kill, wired.server.start)


async def test_kill_9_of_redis_loses_nothing_it_has_acknowledged(wired: Site) -> None:
    """With AOF and `appendfsync always`, killed twice under load."""
    acknowledged: list[str] = []

    async def submit_for_ever(client: int) -> None:
        for n in range(100_000):
            acknowledged.append(await wired.submit("note", idempotency_key=f"{client}-{n}"))

    async with wired.running():
        async with trio.open_nursery() as clients:
            for client in range(8):
                clients.start_soon(submit_for_ever, client)
            for _ in range(2):
                before = len(acknowledged)
                while len(acknowledged) < before + 25:
                    await trio.sleep(0.01)
                await wired.server.kill()
                await wired.server.start()
            clients.cancel_scope.cancel()
        ends = [(await wired.until_done(id))["state"] for id in acknowledged]
    assert Counter(ends) == {"succeeded": len(set(acknowledged))}


async def test_redis_is_frozen(wired: Site, hasty: None) -> None:
    async with wired.running():
        await wired.rides_out(wired.server.freeze, wired.server.thaw, seconds=2.0)


async def test_nobody_listens_at_the_address(site: Site) -> None:
    async with site.running():
        await site.rides_out(site.proxy.refuse, site.proxy.welcome)


async def test_a_partition(wired: Site, hasty: None) -> None:
    async with wired.running():
        await wired.rides_out(wired.proxy.hold, wired.proxy.release, seconds=1.0)


async def test_a_partition_that_outlasts_the_lease_stops_the_handler_first(wired: Site, hasty: None) -> None:
    """The lease is lost, so the task runs again, but never twice at a time, and the late settlement is refused."""
    async with wired.running(lease_ms=1500), open_connection(wired.server.url, name="elsewhere") as direct:
        id = await wired.hold_one()
        wired.proxy.hold()
        elsewhere = wired.worker.broker_with(direct)
        lease_end_ms = float(await direct.command("ZSCORE", elsewhere.keys("running"), id))
        with trio.fail_after(10):
            while not await elsewhere.reap():
                await trio.sleep(0.05)
        assert wired.stopped_ms[id] < lease_end_ms
        wired.let_go.set()
        wired.proxy.release()
        lost = await wired.said.wait_for(LeaseWasLost)
        done = await wired.until_done(id)
    assert (lost.op, lost.lease.id) == ("settle", id)
    assert done["state"] == "succeeded"
    assert outcomes(done) == ["reaped", "succeeded"]
    assert done["attempts"][0]["cancel_cause"] == "lease_lost"
    assert wired.runs[id] == 2


async def test_a_slow_line_is_no_outage(wired: Site) -> None:
    wired.proxy.delay = 0.1
    async with wired.running():
        ids = [await wired.submit("note", payload=n) for n in range(3)]
        assert [(await wired.until_done(id))["result"] for id in ids] == [0, 1, 2]
    assert not wired.said.of(OutageBegan)


@pytest.mark.parametrize("fault", ["refused", "silent", "out of memory"])
async def test_to_wait_for_redis_costs_next_to_nothing(wired: Site, fault: str) -> None:
    async with wired.running():
        await wired.submit("note")
        if fault == "refused":
            await wired.proxy.refuse()
        elif fault == "silent":
            wired.proxy.hold()
        else:
            wired.proxy.answer = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
        share = median([await cpu_share(1.0) for _ in range(3)])  # one moment of three may be a slow one
        wired.proxy.welcome()
        wired.proxy.release()
        wired.proxy.answer = None
    assert share < 0.1


async def test_an_idle_worker_can_be_stopped_while_redis_is_away(wired: Site) -> None:
    async with wired.running():
        await wired.until_done(await wired.submit("note"))
        await wired.proxy.refuse()
        await wired.said.wait_for(OutageBegan, where=lambda event: event.part == "wake")
        began = trio.current_time()
    assert trio.current_time() - began < 3.0  # it would have had ten


async def test_a_short_outage_is_not_even_seen_by_clients(wired: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API repeats a submission for its patience before it gives up."""
    monkeypatch.setattr(gateway, "PATIENCE_SECONDS", 5.0)
    async with wired.running(), trio.open_nursery() as nursery:
        await wired.submit("note")
        await wired.proxy.refuse()

        async def welcome_later() -> None:
            await trio.sleep(0.5)
            wired.proxy.welcome()

        nursery.start_soon(welcome_later)
        answer = await wired.post("note")
    assert answer.status_code == 202
