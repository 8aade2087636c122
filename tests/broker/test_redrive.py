"""redrive.lua: dead tasks back into their queue, waiting ones to its end, and nothing else anywhere."""

from taskward.policy.retry import Bury, RetryIn
from tests.support.rig import TERMS, Rig
from tests.support.store import record


async def test_a_dead_task_starts_anew(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    started = rig.clock.ms
    await rig.settle(lease, Bury("exception"), b'{"n":1}')
    rig.store.client.delete(rig.store.key("wake"))
    rest = rig.store.read()
    rig.clock.move(ms=100)
    assert await rig.broker.redrive(["a"]) == [True]
    contents = rig.store.read()
    assert contents["record"] == {"a": record("Q", attempt=0, worker="w1", queued=lease.queued_us, started=started)}
    assert rig.clock.us < contents["ready:high"]["a"] < rig.clock.us + 1000
    assert contents["wake"] == ["1"]
    for name in ("record", "ready:high", "wake"):
        del contents[name]
    for name in ("record", "dead:high"):
        del rest[name]
    assert contents == rest
    (again,) = await rig.claim()
    assert (again.attempt, again.token > lease.token) == (1, True)


async def test_the_count_of_lost_leases_starts_anew_too(rig: Rig) -> None:
    await rig.submit("a")
    for _ in range(TERMS.max_reaps):
        rig.clock.move(ms=60_000)
        await rig.claim()
        rig.clock.move(ms=TERMS.lease_ms)
        await rig.broker.reap()
    assert await rig.broker.redrive(["a"]) == [True]
    await rig.claim()
    rig.clock.move(ms=TERMS.lease_ms)
    assert [reaped.end for reaped in await rig.broker.reap()] == ["queued"]


async def test_they_keep_their_priority_and_the_order_of_the_call(rig: Rig) -> None:
    await rig.submit("c", "a", "b", priority="low")
    for lease in await rig.claim(3):
        await rig.settle(lease, Bury("exception"))
    assert await rig.broker.redrive(["c", "nobody", "a"]) == [True, False, True]
    assert list(rig.store["ready:low"]) == ["c", "a"]
    assert list(rig.store["dead:low"]) == ["b"]


async def test_at_a_pace_each_waits_for_its_turn(rig: Rig) -> None:
    for lease in await rig.running("a", "b", "c"):
        await rig.settle(lease, Bury("exception"))
    rig.store.client.delete(rig.store.key("wake"))
    assert await rig.broker.redrive(["a", "nobody", "b"], spacing_us=500_000) == [True, False, True]
    assert await rig.broker.redrive(["c"], spacing_us=500_000, before=2) == [True]
    assert list(rig.store["ready:high"]) == ["a"]
    assert rig.store["scheduled:high"] == {"b": rig.clock.ms + 500, "c": rig.clock.ms + 1000}
    assert rig.store["wake"] == ["1"] * 3  # for a, and whoever sleeps longer than until b, and until c
    rig.clock.move(ms=1000)
    assert [(lease.id, lease.attempt) for lease in await rig.claim(3)] == [("a", 1), ("b", 1), ("c", 1)]


async def test_only_what_is_dead_is_redriven(rig: Rig) -> None:
    ids = await rig.one_of_each_that_is_not_dead()
    before = rig.store.read()
    assert await rig.broker.redrive(ids) == [False] * 6
    assert rig.store.read() == before


async def test_a_waiting_task_can_be_started_now(rig: Rig) -> None:
    await rig.submit("scheduled", delay_ms=5000, priority="low")
    (lease,) = await rig.running("retrying")
    await rig.settle(lease, RetryIn(9.0, "exception"), b'{"n":1}')
    rig.store.client.delete(rig.store.key("wake"))
    assert await rig.broker.run_now(["scheduled", "retrying", "nobody"]) == [True, True, False]
    contents = rig.store.read()
    assert [list(contents[f"ready:{p}"]) for p in ("high", "low")] == [["retrying"], ["scheduled"]]
    assert {"scheduled:low", "retry:high"}.isdisjoint(contents)
    assert contents["wake"] == ["1"] * 2
    assert [(again.id, again.attempt) for again in await rig.claim(2)] == [("retrying", 2), ("scheduled", 1)]


async def test_only_what_waits_can_be_started_now(rig: Rig) -> None:
    dead, _ = await rig.running("dead", "running")
    await rig.settle(dead, Bury("exception"))
    await rig.submit("queued")
    before = rig.store.read()
    assert await rig.broker.run_now(["dead", "running", "queued", "nobody"]) == [False] * 4
    assert rig.store.read() == before
