"""cancel.lua: at once for what waits, by its worker for what runs, never for what has ended."""

import msgspec
import pytest

from taskward.policy.retry import Bury, Complete, RetryIn
from taskward.task import State
from tests.support.rig import TERMS, Rig
from tests.support.store import record


@pytest.mark.parametrize("fields", [{}, {"delay_ms": 5000}, {"priority": "low"}])
async def test_a_task_that_never_ran(rig: Rig, fields: dict[str, object]) -> None:
    await rig.submit("a", **fields)
    specs = rig.store["spec"]
    rig.clock.move(ms=10)
    assert await rig.broker.cancel("a", cause="user") is State.CANCELLED
    priority = str(fields.get("priority", "high"))
    assert rig.store.read() == {
        "spec": specs,
        "ended": {"a": record("C", priority, attempt=0, queued=rig.clock.us, finished=rig.clock.ms, cause="user")},
        "done": {"a": rig.clock.ms + TERMS.result_ttl_ms},
        "wake": ["1"],
    }


async def test_a_task_that_waits_for_its_next_attempt(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    started = rig.clock.ms
    await rig.settle(lease, RetryIn(9.0, "exception"), b'{"n":1}')
    rig.clock.move(ms=10)
    assert await rig.broker.cancel("a", cause="user") is State.CANCELLED
    contents = rig.store.read()
    assert "record" not in contents
    assert contents["ended"]["a"] == record(
        "C", worker="w1", queued=lease.queued_us, started=started, finished=rig.clock.ms, cause="user"
    )
    assert contents["history"] == {"a": '{"n":1}\n'}
    assert "retry:high" not in contents


async def test_a_running_task_is_flagged(rig: Rig) -> None:
    await rig.running("a")
    before = rig.store.read()
    assert await rig.broker.cancel("a", cause="user") is State.CANCELLING
    assert rig.store.read() == before | {"cancel": {"a": f"user {rig.clock.ms}"}}


async def test_its_worker_is_told(rig: Rig) -> None:
    await rig.running("a")
    with rig.store.client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(rig.broker.keys.channel())
        listener.get_message(timeout=1)
        await rig.broker.cancel("a", cause="user")
        message = listener.get_message(timeout=5)
    assert message is not None
    assert message["data"] == "a"


async def test_the_first_cause_stands(rig: Rig) -> None:
    await rig.running("a")
    await rig.broker.cancel("a", cause="deadline")
    asked = rig.clock.ms
    rig.clock.move(ms=1)
    assert await rig.broker.cancel("a", cause="user") is State.CANCELLING
    assert rig.store["cancel"] == {"a": f"deadline {asked}"}


async def test_what_has_ended_stays_as_it_is(rig: Rig) -> None:
    succeeded, dead = await rig.running("succeeded", "dead")
    await rig.settle(succeeded, Complete(b"1"))
    await rig.settle(dead, Bury("exception"))
    await rig.submit("expired", expires_ms=rig.clock.ms)
    await rig.claim()
    await rig.submit("cancelled")
    await rig.broker.cancel("cancelled", cause="deadline")
    before = rig.store.read()
    rig.clock.move(ms=1)
    for id in ("succeeded", "dead", "expired", "cancelled"):
        assert await rig.broker.cancel(id, cause="user") == id
    assert rig.store.read() == before


async def test_an_unknown_id(rig: Rig) -> None:
    assert await rig.broker.cancel("nobody", cause="user") is None
    assert rig.store.read() == {}


async def test_a_cancelled_task_cannot_be_settled_by_its_former_holder(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    await rig.settle(lease, RetryIn(9.0, "exception"))
    await rig.broker.cancel("a", cause="user")
    before = rig.store.read()
    assert await rig.settle(msgspec.structs.replace(lease), Complete(b"1")) in ("!", "=")
    assert rig.store.read() == before
