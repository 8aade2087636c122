"""forget.lua: what has been kept long enough leaves every key, and nothing else does."""

from taskward.policy.retry import Bury, Complete, Release, RetryIn
from taskward.task import CancelCause
from tests.support.rig import TERMS, Rig

HOUR_MS = 3_600_000


async def _full_life(rig: Rig, id: str, *, dead: bool = False) -> None:
    """A task that has left something in every key."""
    await rig.submit(id, idempotency_key=f"key of {id}")
    (lease,) = await rig.claim()
    await rig.settle(lease, Release(CancelCause.SHUTDOWN), b'{"n":1}')
    (lease,) = await rig.claim()
    await rig.broker.progress(lease, b'{"current":1}')
    await rig.broker.cancel(id, cause="user")
    await rig.settle(lease, Bury("exception") if dead else Complete(b"1"), b'{"n":2}')


async def test_an_ended_task_leaves_every_key(rig: Rig) -> None:
    await _full_life(rig, "a")
    assert {"spec", "ended", "done", "result", "history", "progress", "idempotency"} <= set(rig.store.read())
    rig.clock.move(ms=TERMS.result_ttl_ms)
    assert await rig.broker.forget() == 2  # the task and its key
    assert set(rig.store.read()) == {"fence", "claims", "workers_seen", "wake"}


async def test_a_dead_task_is_kept_longer(rig: Rig) -> None:
    await _full_life(rig, "a", dead=True)
    rig.clock.move(ms=TERMS.dlq_ttl_ms - 1)
    assert await rig.broker.forget() == 1  # the key
    contents = rig.store.read()
    assert {"spec", "record", "history", "progress", "dead:high"} <= set(contents)
    rig.clock.move(ms=1)
    assert await rig.broker.forget() == 1
    assert set(rig.store.read()) == {"fence", "claims", "workers_seen", "wake"}


async def test_dead_tasks_of_every_priority(rig: Rig) -> None:
    await rig.submit("h")
    await rig.submit("l", priority="low")
    for lease in await rig.claim(2):
        await rig.settle(lease, Bury("exception"))
    rig.clock.move(ms=TERMS.dlq_ttl_ms)
    assert await rig.broker.forget() == 2
    assert "spec" not in rig.store.read()


async def test_not_a_moment_early(rig: Rig) -> None:
    await _full_life(rig, "a")
    before = rig.store.read()
    rig.clock.move(ms=TERMS.idempotency_ttl_ms - 1)
    assert await rig.broker.forget() == 0
    assert rig.store.read() == before
    rig.clock.move(ms=1)
    assert await rig.broker.forget() == 1
    contents = rig.store.read()
    assert "idempotency" not in contents
    assert "a" in contents["spec"]


async def test_what_lives_is_never_forgotten(rig: Rig) -> None:
    await rig.submit("scheduled", delay_ms=10**9)
    _, retrying = await rig.running("running", "retrying")
    await rig.settle(retrying, RetryIn(10**6, "exception"))
    await rig.submit("queued")
    before = rig.store.read()
    rig.clock.move(ms=10 * TERMS.dlq_ttl_ms)
    assert await rig.broker.forget() == 1  # the worker
    assert rig.store.read() == {name: held for name, held in before.items() if name not in ("claims", "workers_seen")}


async def test_silent_workers_and_their_claims(rig: Rig) -> None:
    await rig.broker.report("w1", b"{}")
    await rig.running("a", "b")
    rig.clock.move(ms=HOUR_MS - 1)
    await rig.broker.report("w2", b"{}")
    assert await rig.broker.forget() == 0
    rig.clock.move(ms=1)
    assert await rig.broker.forget() == 1
    contents = rig.store.read()
    assert "claims" not in contents
    assert list(contents["workers"]) == list(contents["workers_seen"]) == ["w2"]


async def test_a_worker_that_died_before_it_reported(rig: Rig) -> None:
    await rig.claim(worker="w1")
    assert set(rig.store.read()) == {"claims", "workers_seen"}
    rig.clock.move(ms=HOUR_MS)
    assert await rig.broker.forget() == 1
    assert rig.store.read() == {}


async def test_one_call_is_bounded(rig: Rig) -> None:
    ids = [f"{n:03}" for n in range(600)]
    for id in ids:
        await rig.submit(id, idempotency_key=id)
    for lease in await rig.claim(600):
        await rig.settle(lease, Complete(b"1"))
    rig.clock.move(ms=TERMS.result_ttl_ms)
    assert [await rig.broker.forget() for _ in range(3)] == [1024, 176, 0]
    assert set(rig.store.read()) == {"fence", "claims", "workers_seen", "wake"}


async def test_churn_leaves_nothing_behind(rig: Rig) -> None:
    """The same week again and again: the store is after each as it was after the first."""
    sizes = []
    for week in range(5):
        for n in range(20):
            await _full_life(rig, f"{week}-{n}", dead=n % 4 == 0)
        await rig.broker.report(f"worker of week {week}", b"{}")
        rig.clock.move(ms=TERMS.dlq_ttl_ms + HOUR_MS)
        while await rig.broker.forget():
            pass
        rig.store.client.delete(rig.store.key("wake"))
        sizes.append({name: len(held) for name, held in rig.store.read().items()})
    assert sizes == [{"fence": 16}] * 5
