"""progress.lua: only the holder of the token writes."""

import msgspec

from taskward.policy.retry import Complete, Release
from taskward.task import CancelCause
from tests.support.rig import Rig


async def test_a_holder_reports(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    before = rig.store.read()
    assert await rig.broker.progress(lease, b'{"current":1}')
    assert rig.store.read() == before | {"progress": {"a": '{"current":1}'}}
    assert await rig.broker.progress(lease, b'{"current":2}')
    assert rig.store["progress"] == {"a": '{"current":2}'}


async def test_nobody_else_does(rig: Rig) -> None:
    a, b, c = await rig.running("a", "b", "c")
    await rig.settle(b, Complete(b"1"))
    await rig.settle(c, Release(CancelCause.SHUTDOWN))
    before = rig.store.read()
    for lease in (
        msgspec.structs.replace(a, token=a.token + 1),
        msgspec.structs.replace(a, id="nobody"),
        b,  # settled
        c,  # released, and not taken by anybody since
    ):
        assert not await rig.broker.progress(lease, b"{}")
    assert rig.store.read() == before
