"""get.lua and reading.get: a task put together from everything the store holds."""

import msgspec
import pytest

from taskward.broker import reading
from taskward.errors import DecodeError
from taskward.policy.retry import Bury, Complete, Release, RetryIn
from taskward.task import Attempt, CancelCause, Progress, State, Task
from tests.support.rig import TERMS, Rig, task

ATTEMPT = Attempt(n=1, worker_id="w1", queued_ms=1, started_ms=2, finished_ms=3, outcome="failed")
LINE = b'{"n":1,"worker_id":"w1","queued_ms":1,"started_ms":2,"finished_ms":3,"outcome":"failed"}'


async def _get(rig: Rig, id: str = "a") -> Task:
    (found,) = await reading.get(rig.broker, [id])
    assert found is not None
    return found


async def test_queued(rig: Rig) -> None:
    await rig.submit("a", payload={"x": 1}, tags=("t1",))
    assert await _get(rig) == Task(
        id="a",
        spec=task("a", payload={"x": 1}, tags=("t1",)).spec,
        state=State.QUEUED,
        created_ms=rig.clock.ms,
        queued_ms=rig.clock.ms,
    )


async def test_scheduled(rig: Rig) -> None:
    await rig.submit("a", priority="low", delay_ms=500)
    found = await _get(rig)
    assert (found.state, found.created_ms, found.run_at_ms) == (State.SCHEDULED, rig.clock.ms, rig.clock.ms + 500)
    assert (found.queued_ms, found.attempt, found.token) == (None, 0, None)


async def test_running(rig: Rig) -> None:
    await rig.submit("a")
    queued = rig.clock.ms
    rig.clock.move(ms=40)
    (lease,) = await rig.claim()
    await rig.broker.progress(lease, b'{"current":1,"total":2}')
    assert await _get(rig) == Task(
        id="a",
        spec=lease.spec,
        state=State.RUNNING,
        created_ms=queued,
        queued_ms=queued,
        started_ms=rig.clock.ms,
        lease_expires_ms=rig.clock.ms + TERMS.lease_ms,
        attempt=1,
        token=lease.token,
        worker_id="w1",
        progress=Progress(1, 2),
    )


async def test_cancelling(rig: Rig) -> None:
    await rig.running("a")
    rig.clock.move(ms=3)
    await rig.broker.cancel("a", cause="user")
    asked = rig.clock.ms
    rig.clock.move(ms=3)
    found = await _get(rig)
    assert (found.state, found.cancel_cause, found.cancelled_ms) == (State.CANCELLING, "user", asked)
    assert not found.terminal


async def test_a_cancel_that_does_not_say_when(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    rig.store.client.hset(rig.store.key("cancel"), "a", "deadline")
    found = await _get(rig)
    assert (found.state, found.cancel_cause, found.cancelled_ms) == (State.CANCELLING, "deadline", None)
    assert await rig.broker.extend([lease]) == ["deadline"]
    rig.clock.move(ms=TERMS.lease_ms)
    await rig.broker.reap()
    found = await _get(rig)
    assert (found.state, found.cancel_cause, found.attempts[0].cancelled_ms) == (State.CANCELLED, "deadline", None)


async def test_retrying(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    await rig.settle(lease, RetryIn(2.0, "exception"), LINE)
    found = await _get(rig)
    assert (found.state, found.run_at_ms, found.attempts) == (State.RETRYING, rig.clock.ms + 2000, (ATTEMPT,))
    assert (found.attempt, found.lease_expires_ms, found.terminal) == (1, None, False)


async def test_released(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    await rig.settle(lease, Release(CancelCause.SHUTDOWN))
    found = await _get(rig)
    assert (found.state, found.attempt, found.queued_ms) == (State.QUEUED, 0, rig.clock.ms)


@pytest.mark.parametrize("waiting", [RetryIn(2.0, "exception"), Release(CancelCause.SHUTDOWN)])
async def test_what_waits_has_not_finished(rig: Rig, waiting: RetryIn | Release) -> None:
    (lease,) = await rig.running("a")
    await rig.settle(lease, waiting)
    assert (await _get(rig)).finished_ms is None


async def test_succeeded(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    rig.clock.move(ms=70)
    await rig.settle(lease, Complete(b'{"y":2}'))
    found = await _get(rig)
    assert (found.state, found.result, found.terminal) == (State.SUCCEEDED, {"y": 2}, True)
    assert (found.started_ms, found.finished_ms) == (rig.clock.ms - 70, rig.clock.ms)


async def test_succeeded_although_it_was_asked_to_stop(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    await rig.broker.cancel("a", cause="user")
    line = LINE.replace(b"failed", b"succeeded").replace(b"}", b',"cancelled_ms":2}')
    await rig.settle(lease, Complete(b"1"), line)
    found = await _get(rig)
    assert (found.state, found.cancel_cause, found.cancelled_ms) == (State.SUCCEEDED, None, None)
    assert found.attempts == (msgspec.structs.replace(ATTEMPT, outcome="succeeded", cancelled_ms=2),)


async def test_dead(rig: Rig) -> None:
    (lease,) = await rig.running("a", priority="low")
    await rig.settle(lease, Bury("exception"), LINE)
    found = await _get(rig)
    assert (found.state, found.attempts, found.finished_ms) == (State.DEAD, (ATTEMPT,), rig.clock.ms)


async def test_cancelled_and_expired(rig: Rig) -> None:
    await rig.submit("a")
    await rig.broker.cancel("a", cause="deadline")
    found = await _get(rig)
    assert (found.state, found.cancel_cause, found.worker_id) == (State.CANCELLED, "deadline", None)
    await rig.submit("b", expires_ms=rig.clock.ms)
    await rig.claim()
    assert (await _get(rig, "b")).state is State.EXPIRED


async def test_several_and_unknown(rig: Rig) -> None:
    await rig.submit("a", "b")
    found = await reading.get(rig.broker, ["b", "nobody", "a"])
    assert [t and t.id for t in found] == ["b", None, "a"]
    assert await reading.get(rig.broker, []) == []


async def test_a_spec_that_cannot_be_read(rig: Rig) -> None:
    await rig.submit("a")
    rig.store.client.hset(rig.store.key("spec"), "a", "garbage")
    with pytest.raises(DecodeError):
        await _get(rig)
