"""step.lua, its second half: who gets which task, in what order, with which token, and when there may be more."""

from collections.abc import Sequence

from taskward.broker.messages import Settlement
from taskward.policy.retry import Complete, Release, RetryIn
from taskward.task import CancelCause, Lease
from tests.support.clock import START_US
from tests.support.rig import TERMS, Rig, task
from tests.support.store import record, spec


def _ids(leases: Sequence[Lease]) -> list[str]:
    return [lease.id for lease in leases]


async def test_a_claim_is_a_lease_a_record_and_a_token(rig: Rig) -> None:
    await rig.submit("a", payload=1)
    queued = rig.clock.us
    rig.clock.move(ms=300)
    step = await rig.step(wanted=1, worker="w1", number=7)
    (lease,) = step.leases
    assert (lease.id, lease.attempt, lease.queued_us, lease.started_us) == ("a", 1, queued, rig.clock.us)
    assert lease.spec == task("a", payload=1).spec
    assert lease.token == rig.clock.us + 1
    assert (step.verdicts, step.broken, step.expired, step.wait) == ("", [], 0, 0)
    assert rig.store.read() == {
        "spec": {"a": spec('["t",1,"high"]', created=queued // 1000)},
        "record": {"a": record("R", token=lease.token, worker="w1", queued=queued, started=rig.clock.ms)},
        "running": {"a": rig.clock.ms + TERMS.lease_ms},
        "fence": str(lease.token),
        "claims": {"w1": f"7 {lease.token - 1} a"},
        "workers_seen": {"w1": rig.clock.ms},
        "wake": ["1"],
    }


async def test_a_claim_takes_no_more_than_a_slow_line_carries(rig: Rig) -> None:
    """The rest stays, in its order and of each priority, and the worker is told to come again."""
    large = "x" * 900_000
    await rig.submit("h1", payload=large)
    await rig.submit("l1", "l2", payload=large, priority="low")
    await rig.submit("h2", payload=large)
    taken = []
    for left in (2, 0):
        step = await rig.step(wanted=4, shares=[1, 1])
        assert step.wait == (0 if left else None)
        assert len(rig.store["ready:high"]) + len(rig.store["ready:low"]) == left
        taken.append(_ids(step.leases))
    assert taken == [["h1", "l1"], ["h2", "l2"]]
    await rig.submit("huge", payload="x" * 3_000_000)
    assert _ids(await rig.claim(4)) == ["huge"]


async def test_the_oldest_first(rig: Rig) -> None:
    for id in "cab":
        await rig.submit(id)
        rig.clock.move(us=1)
    assert _ids(await rig.claim(2)) == ["c", "a"]
    assert list(rig.store["ready:high"]) == ["b"]
    assert _ids(await rig.claim(2)) == ["b"]
    assert _ids(await rig.claim(2)) == []


async def test_shares_first_then_the_rest_highest_first(rig: Rig) -> None:
    await rig.submit("h1", "h2", "h3", "h4")
    await rig.submit("l1", "l2", "l3", "l4", priority="low")
    assert _ids(await rig.claim(3, shares=[1, 2])) == ["h1", "l1", "l2"]
    assert _ids(await rig.claim(3, shares=[1, 1])) == ["h2", "l3", "h3"]


async def test_what_a_priority_does_not_need_goes_to_the_others(rig: Rig) -> None:
    await rig.submit("h1", "h2", "h3")
    await rig.submit("l1", "l2", priority="low")
    assert _ids(await rig.claim(4, shares=[1, 3])) == ["h1", "l1", "l2", "h2"]
    assert rig.store["ready:high"] == {"h3": rig.clock.us + 2}
    await rig.submit("l3", "l4", priority="low")
    assert _ids(await rig.claim(3, shares=[3, 0])) == ["h3", "l3", "l4"]


async def test_strictly_the_highest_first(rig: Rig) -> None:
    await rig.submit("l1", priority="low")
    await rig.submit("h1", "h2")
    assert _ids(await rig.claim(2, shares=[2, 0])) == ["h1", "h2"]
    assert _ids(await rig.claim(2, shares=[2, 0])) == ["l1"]


async def test_a_share_larger_than_what_is_there(rig: Rig) -> None:
    await rig.submit("h1")
    await rig.submit("l1", priority="low")
    assert _ids(await rig.claim(5, shares=[2, 3])) == ["h1", "l1"]


async def test_due_tasks_are_promoted_in_the_order_they_became_due(rig: Rig) -> None:
    await rig.submit("late", delay_ms=2000)
    await rig.submit("soon", delay_ms=1000)
    (failed,) = await rig.running("failed")
    await rig.settle(failed, RetryIn(1.5, "exception"))
    due = {"soon": START_US + 1_000_000, "failed": START_US + 1_500_000, "late": START_US + 2_000_000}
    rig.clock.move(ms=1999)
    assert _ids(await rig.claim(1)) == ["soon"]
    contents = rig.store.read()
    assert contents["ready:high"] == {"failed": due["failed"]}
    assert contents["scheduled:high"] == {"late": due["late"] / 1000}
    rig.clock.move(ms=1)
    leases = await rig.claim(5)
    assert {lease.id: lease.queued_us for lease in leases} == {"failed": due["failed"], "late": due["late"]}
    assert [lease.attempt for lease in leases] == [2, 1]
    assert {"ready:high", "scheduled:high", "retry:high"}.isdisjoint(rig.store.read())


async def test_a_due_task_keeps_its_priority(rig: Rig) -> None:
    await rig.submit("a", priority="low", delay_ms=1)
    await rig.submit("b", priority="low", delay_ms=1)
    rig.clock.move(ms=1)
    await rig.claim(1)
    assert list(rig.store["ready:low"]) == ["b"]


async def test_many_due_at_once_are_promoted_in_bounded_portions(rig: Rig) -> None:
    await rig.submit(*(f"{n:03}" for n in range(300)), delay_ms=1)
    rig.clock.move(ms=1)
    step = await rig.step(wanted=400)
    assert (len(step.leases), step.wait) == (256, 0)
    step = await rig.step(wanted=400)
    assert (len(step.leases), step.wait) == (44, None)


async def test_what_has_expired_is_dropped_at_the_claim(rig: Rig) -> None:
    await rig.submit("a", expires_ms=rig.clock.ms + 100)
    await rig.submit("b", deadline_ms=rig.clock.ms + 101)
    queued = rig.clock.us
    rig.clock.move(ms=100)
    step = await rig.step(wanted=2)
    assert (_ids(step.leases), step.expired) == (["b"], 1)
    contents = rig.store.read()
    assert contents["ended"]["a"] == record("E", attempt=0, queued=queued, finished=rig.clock.ms)
    assert contents["done"] == {"a": rig.clock.ms + TERMS.result_ttl_ms}
    assert list(contents["running"]) == ["b"]
    assert "ready:high" not in contents


async def test_a_retry_can_expire_too(rig: Rig) -> None:
    (lease,) = await rig.running("a", expires_ms=rig.clock.ms + 1000)
    await rig.settle(lease, RetryIn(0.9, "exception"))
    due_us = rig.clock.us + 900_000
    rig.clock.move(ms=1000)
    assert (await rig.step(wanted=1)).expired == 1
    assert rig.store["ended"]["a"] == record("E", queued=due_us, finished=rig.clock.ms)
    assert rig.store["record"] == {}


async def test_attempts_count_from_claim_to_claim(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    for attempt in (1, 2, 3):
        assert lease.attempt == attempt
        await rig.settle(lease, RetryIn(0.0, "exception"))
        (lease,) = await rig.claim()


async def test_a_spec_that_cannot_be_read_is_claimed_as_broken(rig: Rig) -> None:
    await rig.submit("a", "b", "c")
    rig.store.client.hset(rig.store.key("spec"), "a", spec("not JSON", created=1))
    rig.store.client.hdel(rig.store.key("spec"), "b")
    step = await rig.step(wanted=3)
    assert [lease.id for lease, _ in step.broken] == ["a", "b"]
    assert _ids(step.leases) == ["c"]
    assert list(rig.store["running"]) == ["a", "b", "c"]


# ---- the claim's number


async def test_the_same_number_again_answers_the_same(rig: Rig) -> None:
    await rig.submit("a", "b", "c")
    first = await rig.claim(2, number=1)
    before = rig.store.read()
    again = await rig.step(wanted=2, number=1)
    assert [(lease.id, lease.token, lease.attempt) for lease in again.leases] == [
        (lease.id, lease.token, lease.attempt) for lease in first
    ]
    assert again.wait == 0
    assert rig.store.read() == before


async def test_a_replay_leaves_out_what_is_no_longer_the_workers(rig: Rig) -> None:
    await rig.submit("ended", "waits", "taken", "kept")
    first = await rig.claim(4, number=1)
    await rig.settle(first[0], Complete(b"1"))
    await rig.settle(first[1], RetryIn(9.0, "exception"))
    await rig.settle(first[2], Release(CancelCause.SHUTDOWN))
    await rig.claim(1, worker="w2", number=1)
    assert _ids(await rig.claim(4, number=1)) == ["kept"]


async def test_a_replay_renews_the_leases(rig: Rig) -> None:
    """The worker counts its lease from the call that was answered: the store must not count from an earlier one."""
    await rig.submit("a")
    await rig.claim(number=1)
    rig.clock.move(ms=TERMS.lease_ms - 1)
    await rig.claim(number=1)
    assert rig.store["running"] == {"a": rig.clock.ms + TERMS.lease_ms}


async def test_a_replay_of_an_expired_lease_that_was_reaped_gives_nothing(rig: Rig) -> None:
    await rig.submit("a")
    await rig.claim(number=1)
    rig.clock.move(ms=TERMS.lease_ms)
    await rig.broker.reap()
    before = rig.store.read()
    assert await rig.claim(number=1) == []
    assert rig.store.read() == before


async def test_a_replay_settles_nothing_twice(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    await rig.submit("b")
    settlement = Settlement(lease, RetryIn(1.0, "exception"), b"{}")
    first = await rig.step(settlement, wanted=1, number=5)
    before = rig.store.read()
    again = await rig.step(settlement, wanted=1, number=5)
    assert (first.verdicts, again.verdicts) == ("T", "=")
    assert _ids(again.leases) == _ids(first.leases) == ["b"]
    assert rig.store.read() == before


async def test_an_overtaken_number_claims_nothing(rig: Rig) -> None:
    await rig.submit("a", "b", "c")
    await rig.claim(number=1)
    await rig.claim(number=2)
    before = rig.store.read()
    assert await rig.claim(number=1) == []
    assert rig.store.read() == before
    assert _ids(await rig.claim(number=3)) == ["c"]


async def test_a_number_that_found_nothing_is_used_up_all_the_same(rig: Rig) -> None:
    await rig.claim(number=1)
    await rig.claim(number=2)
    await rig.submit("a")
    assert await rig.claim(number=1) == []
    assert rig.store["running"] == {}


async def test_each_worker_has_its_own_numbers(rig: Rig) -> None:
    await rig.submit("a", "b")
    await rig.claim(number=5, worker="w1")
    assert _ids(await rig.claim(number=1, worker="w2")) == ["b"]


# ---- tokens


async def test_tokens_grow_even_when_the_clock_steps_back(rig: Rig) -> None:
    await rig.submit("a", "b", "c", "d")
    tokens = [lease.token for lease in await rig.claim(2)]
    rig.clock.move(ms=-60_000)
    tokens += [lease.token for lease in await rig.claim(1)]
    rig.clock.move(ms=-60_000)
    tokens += [lease.token for lease in await rig.claim(1)]
    assert tokens == [START_US + 1, START_US + 2, START_US + 3, START_US + 4]
    assert rig.store["fence"] == str(START_US + 4)


async def test_tokens_grow_after_the_counter_was_lost(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    rig.store.client.delete(rig.store.key("fence"))
    await rig.settle(lease, Release(CancelCause.SHUTDOWN))
    rig.clock.move(us=1)
    (again,) = await rig.claim()
    assert again.token > lease.token


# ---- pauses, and when to come again


async def test_a_paused_priority_is_left_alone(rig: Rig) -> None:
    await rig.submit("h")
    await rig.submit("l", priority="low")
    await rig.broker.pause("high")
    assert await rig.broker.paused() == {"high"}
    step = await rig.step(wanted=2, shares=[2, 0])
    assert (_ids(step.leases), step.wait) == (["l"], None)
    assert rig.store["wake"] == {}
    await rig.broker.resume("high")
    assert rig.store["wake"] == ["1"]
    assert _ids(await rig.claim(2)) == ["h"]


async def test_a_paused_priority_promotes_but_does_not_start(rig: Rig) -> None:
    await rig.submit("h", delay_ms=1)
    await rig.broker.pause("high")
    rig.clock.move(ms=1)
    assert await rig.claim(1) == []
    assert list(rig.store["ready:high"]) == ["h"]


async def test_a_full_claim_says_come_again_at_once(rig: Rig) -> None:
    await rig.submit("a")
    assert (await rig.step(wanted=1)).wait == 0
    assert rig.store["wake"] == ["1"]


async def test_a_full_claim_wakes_somebody_for_the_rest(rig: Rig) -> None:
    """So that a burst reaches more sleepers than there may be markers, each waking the next."""
    await rig.submit("a", "b", "c")
    rig.store.client.delete(rig.store.key("wake"))
    await rig.claim(1)
    assert rig.store["wake"] == ["1"]
    await rig.claim(1)
    assert rig.store["wake"] == ["1"]
    rig.store.client.delete(rig.store.key("wake"))
    await rig.claim(1)
    assert rig.store["wake"] == {}
    await rig.submit("d", "e")
    rig.store.client.delete(rig.store.key("wake"))
    await rig.broker.pause("high")
    await rig.submit("f", priority="low")
    rig.store.client.delete(rig.store.key("wake"))
    await rig.claim(1, shares=[0, 1])
    assert rig.store["wake"] == {}  # what is left is paused


async def test_an_empty_claim_says_when(rig: Rig) -> None:
    assert (await rig.step(wanted=1)).wait is None
    await rig.submit("a", delay_ms=9000)
    assert (await rig.step(wanted=1)).wait == 9
    await rig.submit("b", delay_ms=5000, priority="low")
    assert (await rig.step(wanted=1)).wait == 5
    (lease,) = await rig.running("c")
    await rig.settle(lease, RetryIn(3.0, "exception"))
    assert (await rig.step(wanted=1)).wait == 3
    await rig.broker.pause("low")
    rig.clock.move(ms=3000)
    step = await rig.step(wanted=5)
    assert (_ids(step.leases), step.wait) == (["c"], 6)


async def test_an_empty_claim_takes_the_markers_away(rig: Rig) -> None:
    await rig.submit("a", "b")
    await rig.claim(3)
    assert rig.store["wake"] == {}


async def test_nothing_wanted_is_nothing_claimed(rig: Rig) -> None:
    await rig.submit("a")
    before = rig.store.read()
    step = await rig.step(wanted=0)
    assert (step.leases, step.verdicts) == ([], "")
    assert rig.store.read() == before
