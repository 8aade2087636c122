"""discard.lua: a dead task is removed from every key, and nothing else is touched."""

from taskward.policy.retry import Bury, Complete, RetryIn
from tests.support.rig import Rig


async def test_a_dead_task_leaves_nothing_behind(rig: Rig) -> None:
    (kept,) = await rig.running("kept", priority="low")
    await rig.settle(kept, Bury("exception"), b'{"n":1}')
    before = rig.store.read()
    (lease,) = await rig.running("a")
    assert await rig.broker.progress(lease, b"{}")
    await rig.settle(lease, Bury("exception"), b'{"n":1}')
    assert await rig.broker.discard("a")
    changed = {"fence", "claims", "wake"}
    contents = rig.store.read()
    assert {k: v for k, v in contents.items() if k not in changed} == {
        k: v for k, v in before.items() if k not in changed
    }
    assert not await rig.broker.discard("a")
    assert await rig.broker.discard("kept")
    assert set(rig.store.read()) <= {*changed, "workers_seen"}


async def test_only_what_is_dead_is_discarded(rig: Rig) -> None:
    await rig.submit("scheduled", delay_ms=5000)
    _, retrying, succeeded = await rig.running("running", "retrying", "succeeded")
    await rig.settle(retrying, RetryIn(9.0, "exception"))
    await rig.settle(succeeded, Complete(b"1"))
    await rig.submit("queued")
    before = rig.store.read()
    for id in ("scheduled", "running", "retrying", "succeeded", "queued", "nobody"):
        assert not await rig.broker.discard(id)
    assert rig.store.read() == before
