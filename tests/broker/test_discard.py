"""discard.lua: a dead task is removed from every key, and nothing else is touched."""

from taskward.policy.retry import Bury
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
    ids = await rig.one_of_each_that_is_not_dead()
    before = rig.store.read()
    for id in ids:
        assert not await rig.broker.discard(id)
    assert rig.store.read() == before
