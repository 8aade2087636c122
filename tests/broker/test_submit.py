"""submit.lua: what it leaves in the store, and what it answers the second time."""

import time

import msgspec
import pytest

from taskward.broker import broker
from taskward.broker.broker import Broker
from taskward.broker.messages import Refusal
from taskward.errors import InvalidTask
from taskward.events import BrokerCalled, ignore
from taskward.policy.retry import RetryIn
from taskward.task import Submitted
from tests.support.rig import PRIORITIES, TERMS, Rig, task
from tests.support.store import spec

CREATED, KNOWN = True, False


async def test_a_task_is_one_spec_one_place_and_one_marker(rig: Rig) -> None:
    assert await rig.submit("a", payload=[1]) == [Submitted("a", CREATED)]
    assert rig.store.read() == {
        "spec": {"a": spec('["t",[1],"high"]', created=rig.clock.ms)},
        "ready:high": {"a": rig.clock.us},
        "wake": ["1"],
    }


async def test_each_priority_has_its_place(rig: Rig) -> None:
    await rig.submit("a", priority="low")
    assert rig.store["ready:low"] == {"a": rig.clock.us}
    assert rig.store["ready:high"] == {}


async def test_one_call_keeps_its_order_within_a_microsecond(rig: Rig) -> None:
    await rig.submit("c", "a", "b")
    assert rig.store["ready:high"] == {"c": rig.clock.us, "a": rig.clock.us + 1, "b": rig.clock.us + 2}
    assert [lease.id for lease in await rig.claim(3)] == ["c", "a", "b"]


async def test_a_delay_counts_from_the_servers_clock(rig: Rig) -> None:
    await rig.submit("a", delay_ms=1500)
    due = rig.clock.ms + 1500
    assert rig.store.read() == {
        "spec": {"a": spec('["t",null,"high",null,1500]', created=rig.clock.ms, due=due)},
        "scheduled:high": {"a": due},
        "wake": ["1"],
    }


@pytest.mark.parametrize(("ahead", "place"), [(-5000, "ready:high"), (0, "ready:high"), (1, "scheduled:high")])
async def test_run_at_waits_only_where_it_lies_ahead(rig: Rig, ahead: int, place: str) -> None:
    at = rig.clock.ms + ahead
    await rig.submit("a", run_at_ms=at)
    assert list(rig.store[place]) == ["a"]
    json = f'["t",null,"high",{at}]'
    assert rig.store["spec"] == {"a": spec(json, created=rig.clock.ms, due=at if ahead > 0 else "")}


async def test_the_head_holds_the_earlier_of_expiry_and_deadline(rig: Rig) -> None:
    await rig.submit("a", expires_ms=rig.clock.ms + 9, deadline_ms=rig.clock.ms + 8)
    assert rig.store["spec"]["a"].startswith(spec("[", created=rig.clock.ms, start_by=rig.clock.ms + 8))


async def test_the_same_again_is_a_replay(rig: Rig) -> None:
    await rig.submit("a", "b", payload=1)
    before = rig.store.read()
    rig.clock.move(ms=50)
    assert await rig.submit("a", "b", payload=1) == [Submitted("a", KNOWN), Submitted("b", KNOWN)]
    assert rig.store.read() == before


async def test_a_replay_is_known_in_every_state(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    assert await rig.submit("a") == [Submitted("a", KNOWN)]
    await rig.settle(lease, RetryIn(1.0, "exception"))
    assert await rig.submit("a") == [Submitted("a", KNOWN)]
    assert rig.store["ready:high"] == {}


async def test_another_task_under_the_same_id_is_a_conflict(rig: Rig) -> None:
    await rig.submit("a", payload=1)
    before = rig.store.read()
    assert await rig.submit("a", payload=2) == [Refusal("a", conflict=True, waiting=0)]
    assert await rig.submit("a", payload=1, priority="low") == [Refusal("a", conflict=True, waiting=0)]
    assert rig.store.read() == before


async def test_an_id_twice_in_one_call(rig: Rig) -> None:
    assert await rig.broker.submit([task("a"), task("a"), task("a", payload=2)]) == [
        Submitted("a", CREATED),
        Submitted("a", KNOWN),
        Refusal("a", conflict=True, waiting=0),
    ]
    assert rig.store["ready:high"] == {"a": rig.clock.us}


async def test_an_idempotency_key_stands_for_its_first_task(rig: Rig) -> None:
    await rig.submit("a", idempotency_key="k")
    before = rig.store.read()
    assert before["idempotency"] == {"k": "a"}
    assert before["idempotency_expiry"] == {"k": rig.clock.ms + TERMS.idempotency_ttl_ms}
    rig.clock.move(ms=TERMS.idempotency_ttl_ms - 1)
    assert await rig.submit("b", idempotency_key="k") == [Submitted("a", KNOWN)]
    assert rig.store.read() == before


async def test_a_key_with_another_task_is_a_conflict(rig: Rig) -> None:
    await rig.submit("a", idempotency_key="k")
    assert await rig.submit("b", idempotency_key="k", payload=2) == [Refusal("a", conflict=True, waiting=0)]
    assert list(rig.store["spec"]) == ["a"]


async def test_a_key_twice_in_one_call(rig: Rig) -> None:
    assert await rig.submit("a", "b", idempotency_key="k") == [Submitted("a", CREATED), Submitted("a", KNOWN)]
    assert rig.store["idempotency"] == {"k": "a"}
    assert list(rig.store["spec"]) == ["a"]


async def test_a_key_is_free_again_when_it_has_expired(rig: Rig) -> None:
    await rig.submit("a", idempotency_key="k")
    rig.clock.move(ms=TERMS.idempotency_ttl_ms)
    assert await rig.submit("b", idempotency_key="k") == [Submitted("b", CREATED)]
    assert rig.store["idempotency"] == {"k": "b"}
    assert rig.store["idempotency_expiry"] == {"k": rig.clock.ms + TERMS.idempotency_ttl_ms}


async def test_a_key_outlives_its_task(rig: Rig) -> None:
    await rig.broker_with(idempotency_ttl_ms=TERMS.result_ttl_ms + 1).submit([task("a", idempotency_key="k")])
    await rig.broker.cancel("a", cause="user")
    rig.clock.move(ms=TERMS.result_ttl_ms)
    await rig.broker.forget()
    assert rig.store["spec"] == {}
    assert await rig.submit("b", idempotency_key="k", payload="whatever") == [Submitted("a", KNOWN)]
    assert rig.store["spec"] == {}


async def test_an_id_comes_before_a_key(rig: Rig) -> None:
    await rig.submit("a", idempotency_key="k")
    await rig.submit("b")
    assert await rig.submit("b", idempotency_key="k") == [Refusal("b", conflict=True, waiting=0)]


async def test_the_depth_limit_counts_what_waits(rig: Rig) -> None:
    await rig.submit("scheduled", delay_ms=1000)
    _, failing = await rig.running("running", "retrying")
    await rig.settle(failing, RetryIn(1.0, "exception"))
    limited = rig.broker_with(max_queue_depth=4)
    assert await limited.submit([task("a"), task("b", delay_ms=5), task("c"), task("d", delay_ms=5)]) == [
        Submitted("a", CREATED),
        Submitted("b", CREATED),
        Refusal("c", conflict=False, waiting=4),
        Refusal("d", conflict=False, waiting=4),
    ]
    assert {"c", "d"}.isdisjoint(rig.store["spec"])
    assert await limited.submit([task("a"), task("running")]) == [
        Submitted("a", KNOWN),
        Submitted("running", KNOWN),
    ]


async def test_the_lower_a_priority_the_earlier_it_is_refused(rig: Rig) -> None:
    limited = rig.broker_with(max_queue_depth=5)
    await limited.submit([task("a"), task("b"), task("c"), task("d", priority="low")])
    assert await limited.submit([task("e", priority="low"), task("f"), task("g")]) == [
        Refusal("e", conflict=False, waiting=5),
        Submitted("f", CREATED),
        Refusal("g", conflict=False, waiting=5),
    ]


async def test_a_closed_priority_takes_nothing_new(rig: Rig) -> None:
    await rig.submit("known", priority="low")
    assert await rig.broker.submit(
        [task("known", priority="low"), task("a", priority="low"), task("b")], closed=["low"]
    ) == [Submitted("known", KNOWN), Refusal("a", conflict=False, waiting=2), Submitted("b", CREATED)]
    assert set(rig.store["spec"]) == {"known", "b"}


async def test_what_is_too_late_is_a_repetition_or_nothing(rig: Rig) -> None:
    late = InvalidTask("in the past", pointer="/deadline")
    await rig.submit("a", idempotency_key="k")
    before = rig.store.read()
    again, by_key, other, new = (
        msgspec.structs.replace(made, late=late)
        for made in (
            task("a", idempotency_key="k"),
            task("b", idempotency_key="k"),
            task("a", payload=2, idempotency_key="k"),
            task("c"),
        )
    )
    assert await rig.broker.submit([again, by_key, other, new]) == [
        Submitted("a", KNOWN),
        Submitted("a", KNOWN),
        Refusal("a", conflict=True, waiting=0),
        Refusal("c", conflict=False, waiting=0, late=late),
    ]
    assert rig.store.read() == before


async def test_the_order_of_an_objects_keys_makes_no_other_task(rig: Rig) -> None:
    await rig.submit("a", payload={"one": {"x": 1, "y": [{"b": 1, "a": 2}]}, "two": 2})
    assert await rig.submit("a", payload={"two": 2, "one": {"y": [{"a": 2, "b": 1}], "x": 1}}) == [
        Submitted("a", KNOWN)
    ]


async def test_wake_markers_are_bounded(rig: Rig) -> None:
    await rig.submit(*(f"a{n}" for n in range(3)))
    assert rig.store["wake"] == ["1"] * 3
    await rig.submit(*(f"b{n}" for n in range(100)))
    assert rig.store["wake"] == ["1"] * 64
    await rig.submit("c")
    assert rig.store["wake"] == ["1"] * 64


async def test_only_the_earliest_scheduled_task_wakes_somebody(rig: Rig) -> None:
    await rig.submit("a", delay_ms=1000)
    await rig.submit("later", delay_ms=2000)
    assert rig.store["wake"] == ["1"]
    await rig.submit("earlier", delay_ms=500)
    assert rig.store["wake"] == ["1"] * 2


async def test_a_replay_wakes_nobody(rig: Rig) -> None:
    await rig.submit("a")
    await rig.submit("a")
    assert rig.store["wake"] == ["1"]


async def test_the_largest_call(rig: Rig) -> None:
    tasks = [task(f"{n:03}", idempotency_key=f"k{n}", delay_ms=5 * (n % 2) or None) for n in range(512)]
    assert await rig.broker.submit(tasks) == [Submitted(t.id, CREATED) for t in tasks]
    contents = rig.store.read()
    assert len(contents["spec"]) == len(contents["idempotency"]) == len(contents["idempotency_expiry"]) == 512
    assert len(contents["ready:high"]) == len(contents["scheduled:high"]) == 256


async def test_tasks_too_large_for_one_call_go_in_several(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "LARGEST_CALL", 1000)
    rig.seen.clear()
    tasks = [task(str(n), payload="x" * 400) for n in range(5)]
    assert await rig.broker.submit(tasks) == [Submitted(t.id, CREATED) for t in tasks]
    assert sum(isinstance(event, BrokerCalled) for event in rig.seen) == 3
    assert set(rig.store["spec"]) == {t.id for t in tasks}


async def test_the_clock_is_the_servers_unless_another_is_given(rig: Rig) -> None:
    broker = Broker(rig.connection, queue=rig.queue, priorities=PRIORITIES, terms=TERMS, observe=ignore)
    before = time.time() * 1e6
    await broker.submit([task("a")])
    assert before - 1 <= rig.store["ready:high"]["a"] <= time.time() * 1e6 + 1
