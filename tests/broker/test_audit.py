"""audit.lua: what it finds wrong in damaged books, what it repairs of it, and what it leaves alone."""

import pytest

from taskward.broker.broker import Broker
from taskward.broker.messages import Settlement
from taskward.events import ignore
from taskward.policy.retry import Bury, Complete, Decision, Release, RetryIn
from taskward.task import CancelCause, Lease
from tests.support.rig import TERMS, Rig, task
from tests.support.store import record


async def _every_state(rig: Rig) -> list[str]:
    """A healthy task of each kind."""
    leases = await rig.running("succeeded", "dead", "retrying", "released", "promoted", "running", "cancelling")
    decisions: list[Decision] = [
        Complete(b"1"),
        Bury("exception"),
        RetryIn(99.0, "exception"),
        Release(CancelCause.SHUTDOWN),
        RetryIn(0.0, "exception"),
    ]
    for lease, decision in zip(leases, decisions, strict=False):
        await rig.settle(lease, decision)
    await rig.broker.cancel("cancelling", cause="user")
    await rig.submit("first", priority="low")
    assert [lease.id for lease in await rig.claim(1, shares=[0, 1])] == ["first"]  # and the due retry is promoted
    await rig.submit("queued", priority="low")
    await rig.submit("scheduled", delay_ms=99_000)
    await rig.submit("cancelled")
    await rig.broker.cancel("cancelled", cause="user")
    return list(rig.store["spec"])


@pytest.mark.parametrize("repair", [False, True])
async def test_healthy_books_are_left_alone(rig: Rig, repair: bool) -> None:
    ids = await _every_state(rig)
    before = rig.store.read()
    assert await rig.broker.audit([*ids, "nobody"], repair=repair) == []
    assert rig.store.read() == before


@pytest.mark.parametrize("place", ["ready:low", "scheduled:high", "retry:high", "dead:high", "done", "running"])
async def test_a_record_or_place_without_a_task(rig: Rig, place: str) -> None:
    rig.store.client.zadd(rig.store.key(place), {"ghost": 5})
    for name in ("record", "result", "history", "progress", "cancel"):
        rig.store.client.hset(rig.store.key(name), "ghost", "x")
    before = rig.store.read()
    assert await rig.broker.audit(["ghost"], repair=False) == [("ghost", "missing_spec", "left")]
    assert rig.store.read() == before
    assert await rig.broker.audit(["ghost"], repair=True) == [("ghost", "missing_spec", "removed")]
    assert rig.store.read() == {}


async def test_a_record_alone(rig: Rig) -> None:
    rig.store.client.hset(rig.store.key("record"), "ghost", "x")
    assert await rig.broker.audit(["ghost"], repair=True) == [("ghost", "missing_spec", "removed")]
    assert rig.store.read() == {}


async def test_a_new_task_in_no_place_is_queued(rig: Rig) -> None:
    await rig.submit("a")
    rig.store.client.delete(rig.store.key("ready:high"))
    assert await rig.broker.audit(["a"], repair=False) == [("a", "missing_place", "left")]
    assert {"ready:high", "ready:low"}.isdisjoint(rig.store.read())
    assert await rig.broker.audit(["a"], repair=True) == [("a", "missing_place", "queued")]
    assert rig.store["ready:low"] == {"a": rig.clock.us}  # nothing says of which priority it was
    assert rig.store["wake"] == ["1", "1"]


async def test_a_task_of_somebody_elses_priority_is_left_alone(rig: Rig) -> None:
    """Whether it waits, is scheduled or has died: what others have put somewhere is not in our places."""
    others = Broker(
        rig.connection, queue=rig.queue, priorities=("urgent",), terms=TERMS, observe=ignore, clock=rig.clock
    )
    await others.submit([task("dead", priority="urgent")])
    [lease] = (await others.step([], worker="w1", number=1, shares=[1], wanted=1)).leases
    await others.step([Settlement(lease, Bury("exception"))], worker="w1", number=0, shares=[0], wanted=0)
    await others.submit([task("waits", priority="urgent"), task("later", priority="urgent", delay_ms=5000)])
    before = rig.store.read()
    found = await rig.broker.audit(["dead", "waits", "later"], repair=True)
    assert found == [(id, "unknown_priority", "left") for id in ("dead", "waits", "later")]
    assert rig.store.read() == before
    assert await others.audit(["dead", "waits", "later"], repair=True) == []


async def test_a_running_task_without_a_lease_is_queued_and_its_holder_fenced(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    started = rig.clock.ms
    rig.clock.move(ms=5)
    rig.store.client.delete(rig.store.key("running"))
    assert await rig.broker.audit(["a"], repair=True) == [("a", "running_without_lease", "queued")]
    contents = rig.store.read()
    assert contents["ready:high"] == {"a": rig.clock.us}
    assert contents["record"]["a"] == record(
        "Q", worker="w1", queued=lease.queued_us, started=started, finished=rig.clock.ms
    )
    assert await _refused(rig, lease)


async def _refused(rig: Rig, lease: Lease) -> bool:
    return await rig.settle(lease, Complete(b"1")) == "!" and await rig.broker.extend([lease]) == ["!"]


async def test_an_ended_task_in_no_place_is_kept_for_its_time(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    await rig.settle(lease, Complete(b"1"))
    rig.store.client.delete(rig.store.key("done"))
    records = rig.store["ended"]
    rig.clock.move(ms=7)
    assert await rig.broker.audit(["a"], repair=True) == [("a", "missing_place", "kept")]
    contents = rig.store.read()
    assert contents["done"] == {"a": rig.clock.ms + TERMS.result_ttl_ms}
    assert contents["ended"] == records
    assert {"ready:high", "ready:low"}.isdisjoint(contents)


async def test_two_records_are_reported_and_left(rig: Rig) -> None:
    await rig.running("a")
    rig.store.client.hset(rig.store.key("ended"), "a", record("S"))
    before = rig.store.read()
    assert await rig.broker.audit(["a"], repair=True) == [("a", "stale_record", "left")]
    assert rig.store.read() == before


@pytest.mark.parametrize("second", ["running", "done", "scheduled:high", "retry:low", "dead:low", "ready:low"])
async def test_two_places_are_reported_and_left(rig: Rig, second: str) -> None:
    await rig.submit("a")
    rig.store.client.zadd(rig.store.key(second), {"a": 5})
    before = rig.store.read()
    assert await rig.broker.audit(["a"], repair=True) == [("a", "two_places", "left")]
    assert rig.store.read() == before


@pytest.mark.parametrize(
    ("place", "letter"),
    [
        *(("running", letter) for letter in "QTSDCE"),
        *(("done", letter) for letter in "RQTD"),
        *(("dead:high", letter) for letter in "RQTSCE"),
        *(("retry:high", letter) for letter in "RQSDCE"),
        *(("ready:high", letter) for letter in "RSDCE"),
        *(("scheduled:high", letter) for letter in "RSDCE"),
    ],
)
async def test_a_record_of_another_place_is_reported_and_left(rig: Rig, place: str, letter: str) -> None:
    await rig.submit("a")
    rig.store.client.delete(rig.store.key("ready:high"))
    rig.store.client.zadd(rig.store.key(place), {"a": 5})
    rig.store.client.hset(rig.store.key("record"), "a", record(letter))
    before = rig.store.read()
    assert await rig.broker.audit(["a"], repair=True) == [("a", "stale_record", "left")]
    assert rig.store.read() == before


@pytest.mark.parametrize("place", ["running", "done", "dead:high", "retry:high"])
async def test_a_place_that_needs_a_record(rig: Rig, place: str) -> None:
    await rig.submit("a")
    rig.store.client.delete(rig.store.key("ready:high"))
    rig.store.client.zadd(rig.store.key(place), {"a": 5})
    assert await rig.broker.audit(["a"], repair=True) == [("a", "stale_record", "left")]


async def test_each_of_several_is_judged_alone(rig: Rig) -> None:
    await rig.submit("a", "b")
    rig.store.client.zrem(rig.store.key("ready:high"), "a")
    assert await rig.broker.audit(["b", "a"], repair=True) == [("a", "missing_place", "queued")]
