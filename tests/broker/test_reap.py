"""reap.lua: what becomes of a task whose lease has run out, and of the one who held it."""

import msgspec
import pytest

from taskward import codec
from taskward.broker.broker import REAP_GAP_MS, REAP_HOLD_MS, Broker
from taskward.events import TaskReaped, ignore
from taskward.policy.retry import Bury, Cancel, Complete, Release, RetryIn
from taskward.task import Attempt, CancelCause
from tests.support.rig import TERMS, Rig
from tests.support.store import record

PAUSE_MS = 5000


async def _lose(rig: Rig, wanted: int = 1) -> list[TaskReaped]:
    """Claim, and let the lease run out."""
    rig.clock.move(ms=PAUSE_MS * TERMS.max_reaps)
    assert len(await rig.claim(wanted)) == wanted
    rig.clock.move(ms=TERMS.lease_ms)
    return await rig.broker.reap()


async def test_a_lease_that_has_not_ended_is_left_alone(rig: Rig) -> None:
    await rig.running("a")
    rig.clock.move(ms=TERMS.lease_ms - 1)
    before = rig.store.read()
    assert await rig.broker.reap() == []
    assert rig.store.read() == before | {"reaping": f"{rig.clock.ms} 0"}


async def test_the_first_lost_lease_costs_nothing(rig: Rig) -> None:
    await rig.submit("a", priority="low")
    queued = rig.clock.us
    (lease,) = await rig.claim()
    await rig.submit("b", priority="low")
    rig.store.client.delete(rig.store.key("wake"))
    rest = rig.store.read()
    for name in ("running", "record", "ready:low"):
        del rest[name]
    started = rig.clock.ms
    rig.clock.move(ms=TERMS.lease_ms)
    assert await rig.broker.reap() == [TaskReaped("a", "low", "queued")]
    contents = rig.store.read()
    attempt = Attempt(
        n=1,
        worker_id="w1",
        queued_ms=queued // 1000,
        started_ms=started,
        finished_ms=rig.clock.ms,
        outcome="reaped",
        cancel_cause="lease_lost",
    )
    assert codec.decode_history(contents.pop("history")["a"].encode()) == (attempt,)
    assert contents == rest | {
        "ready:low": {"a": queued, "b": queued},
        "record": {
            "a": record(
                "Q", "low", attempt=0, worker="w1", queued=queued, started=started, finished=rig.clock.ms, reaps=1
            )
        },
        "wake": ["1"],
        "reaping": f"{rig.clock.ms} 0",
    }
    (again,) = await rig.claim()
    assert (again.id, again.attempt) == ("a", 1)
    assert again.token > lease.token


async def test_the_second_waits_and_the_last_kills(rig: Rig) -> None:
    await rig.submit("a")
    assert await _lose(rig) == [TaskReaped("a", "high", "queued")]
    assert await _lose(rig) == [TaskReaped("a", "high", "retrying")]
    contents = rig.store.read()
    assert contents["retry:high"] == {"a": rig.clock.ms + PAUSE_MS}
    assert contents["record"]["a"].startswith("T|0|")
    assert await _lose(rig) == [TaskReaped("a", "high", "dead")]
    contents = rig.store.read()
    assert contents["dead:high"] == {"a": rig.clock.ms}
    letter, token, finished, cause, _, attempt, *_, reaps = contents["record"]["a"].split("|")
    assert (letter, token, finished, cause, attempt, reaps) == ("D", "0", str(rig.clock.ms), "lease_lost", "1", "3")
    assert [a.outcome for a in codec.decode_history(contents["history"]["a"].encode())] == ["reaped"] * 3
    assert {"running", "retry:high", "ready:high", "done"}.isdisjoint(contents)


async def test_the_pause_grows(rig: Rig) -> None:
    broker = rig.broker_with(max_reaps=5)
    await rig.submit("a")
    for expected in (None, PAUSE_MS, 2 * PAUSE_MS, 3 * PAUSE_MS):
        rig.clock.move(ms=5 * PAUSE_MS)
        await rig.claim()
        rig.clock.move(ms=TERMS.lease_ms)
        await broker.reap()
        assert rig.store["retry:high"] == ({"a": rig.clock.ms + expected} if expected else {})


async def test_a_task_that_was_to_be_cancelled_is(rig: Rig) -> None:
    await rig.running("a", "b")
    rig.clock.move(ms=5)
    await rig.broker.cancel("a", cause="user")
    asked = rig.clock.ms
    rig.clock.move(ms=TERMS.lease_ms)
    assert await rig.broker.reap() == [TaskReaped("a", "high", "cancelled"), TaskReaped("b", "high", "queued")]
    contents = rig.store.read()
    a, b = (codec.decode_history(contents["history"][id].encode()) for id in "ab")
    assert (a[0].cancelled_ms, b[0].cancelled_ms) == (asked, None)
    assert contents["done"] == {"a": rig.clock.ms + TERMS.result_ttl_ms}
    assert contents["ended"]["a"].startswith(f"C|0|{rig.clock.ms}|user|")
    assert list(contents["record"]) == ["b"]
    assert "cancel" not in contents
    assert list(contents["ready:high"]) == ["b"]


@pytest.mark.parametrize(
    "decision",
    [
        Complete(b"1"),
        RetryIn(1.0, "exception"),
        Bury("exception"),
        Cancel(CancelCause.USER),
        Release(CancelCause.SHUTDOWN),
    ],
)
async def test_a_late_holder_is_fenced(rig: Rig, decision: object) -> None:
    (lease,) = await rig.running("a")
    rig.clock.move(ms=TERMS.lease_ms)
    await rig.broker.reap()
    before = rig.store.read()
    assert await rig.settle(lease, decision) == "!"  # type: ignore[arg-type]
    assert await rig.broker.extend([lease]) == ["!"]
    assert not await rig.broker.progress(lease, b"{}")
    assert rig.store.read() == before


async def test_a_new_holder_is_not_reaped_for_the_old_one(rig: Rig) -> None:
    await rig.running("a")
    rig.clock.move(ms=TERMS.lease_ms)
    await rig.broker.reap()
    await rig.claim(worker="w2")
    assert await rig.broker.reap() == []


async def test_what_is_taken_back_wakes_somebody(rig: Rig) -> None:
    await rig.running("a", "b")
    await rig.broker.cancel("a", cause="user")
    rig.store.client.delete(rig.store.key("wake"))
    rig.clock.move(ms=TERMS.lease_ms)
    await rig.broker.reap()
    assert rig.store["wake"] == ["1"]  # for b; a is at its end


async def test_after_an_outage_workers_first_say_what_they_have_done(rig: Rig) -> None:
    """Nobody has reaped for long: Redis was away, and leases have ended that nobody could renew."""
    broker = rig.broker_with(reaper_interval_ms=1000)
    await broker.reap()
    done, lost = await rig.running("a", "b")
    rig.clock.move(ms=TERMS.lease_ms)
    assert await broker.reap() == []
    assert await rig.settle(done, Complete(b"1")) == "S"
    rig.clock.move(ms=REAP_HOLD_MS - 1)
    assert await broker.reap() == []
    rig.clock.move(ms=1)
    assert await broker.reap() == [TaskReaped("b", "high", "queued")]
    assert await rig.settle(lost, Complete(b"1")) == "!"


@pytest.mark.parametrize("gap", [0, 1])
async def test_calls_that_are_late_are_no_outage_yet(rig: Rig, gap: int) -> None:
    broker = rig.broker_with(reaper_interval_ms=4000)
    await rig.running("a")
    await broker.reap()
    rig.clock.move(ms=REAP_GAP_MS + 3 * 4000 + gap)
    assert len(await broker.reap()) == 1 - gap


async def test_a_clock_that_steps_back_holds_nothing_up(rig: Rig) -> None:
    broker = rig.broker_with(reaper_interval_ms=1000)
    await broker.reap()
    rig.clock.move(ms=100_000)
    assert await broker.reap() == []
    rig.clock.move(ms=-50_000)
    await rig.running("a")
    for _ in range(4):
        rig.clock.move(ms=TERMS.lease_ms // 4)
        reaped = await broker.reap()
    assert [event.id for event in reaped] == ["a"]


async def test_one_call_is_bounded(rig: Rig) -> None:
    ids = [f"{n:03}" for n in range(600)]
    await rig.submit(*ids[:300])
    await rig.submit(*ids[300:])
    await rig.claim(600)
    rig.clock.move(ms=TERMS.lease_ms)
    assert len(await rig.broker.reap()) == 512
    assert len(await rig.broker.reap()) == 88
    assert await rig.broker.reap() == []
    assert len(rig.store["ready:high"]) == 600


async def test_a_priority_that_is_no_longer_configured_goes_to_the_last(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    text = rig.store["record"]["a"].replace("|high|", "|gone|")
    rig.store.client.hset(rig.store.key("record"), "a", text)
    rig.clock.move(ms=TERMS.lease_ms)
    assert [reaped.priority for reaped in await rig.broker.reap()] == ["low"]
    assert rig.store["ready:low"] == {"a": lease.queued_us}
    assert codec.decode_record(rig.store["record"]["a"].encode()).priority == "low"


async def test_one_that_knows_the_former_priority_leaves_it_where_it_went(rig: Rig) -> None:
    """Its auditor sees it in no place: it must not queue it a second time."""
    (lease,) = await rig.running("a")
    text = rig.store["record"]["a"].replace("|high|", "|old|")
    rig.store.client.hset(rig.store.key("record"), "a", text)
    rig.clock.move(ms=TERMS.lease_ms)
    await rig.broker.reap()
    old = Broker(rig.connection, queue=rig.queue, priorities=("high", "old"), terms=TERMS, observe=ignore)
    assert await old.audit(["a"], repair=True) == [("a", "unknown_priority", "left")]
    assert rig.store["ready:low"] == {"a": lease.queued_us}


@pytest.mark.parametrize("damage", ["missing", "garbled"])
async def test_a_task_whose_record_is_damaged_is_not_lost(rig: Rig, damage: str) -> None:
    (lease,) = await rig.running("a")
    if damage == "missing":
        rig.store.client.hdel(rig.store.key("record"), "a")
    else:
        rig.store.client.hset(rig.store.key("record"), "a", "garbled")
    rig.clock.move(ms=TERMS.lease_ms)
    assert [msgspec.structs.astuple(reaped) for reaped in await rig.broker.reap()] == [("a", "low", "dead")]
    contents = rig.store.read()
    assert contents["dead:low"] == {"a": rig.clock.ms}
    assert codec.decode_record(contents["record"]["a"].encode()).state == "D"
    assert await rig.settle(lease, Complete(b"1")) == "!"
    assert await rig.broker.redrive(["a"]) == [True]
