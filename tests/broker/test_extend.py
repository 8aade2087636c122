"""extend.lua: who may move a lease's end, and what a holder hears."""

import msgspec

from taskward.policy.retry import Complete, Release
from taskward.task import CancelCause, Lease
from tests.support.rig import TERMS, Rig


async def test_a_holder_renews(rig: Rig) -> None:
    a, b = await rig.running("a", "b")
    rest = rig.store.read()
    del rest["running"]
    rig.clock.move(ms=4000)
    assert await rig.broker.extend([a]) == [""]
    contents = rig.store.read()
    assert contents.pop("running") == {"a": rig.clock.ms + TERMS.lease_ms, "b": rig.clock.ms - 4000 + TERMS.lease_ms}
    assert contents == rest
    assert await rig.broker.extend([b, a]) == ["", ""]


async def test_another_token_renews_nothing(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    before = rig.store.read()
    rig.clock.move(ms=1)
    assert await rig.broker.extend([_with(lease, token=lease.token + 1), _with(lease, id="nobody")]) == ["!", "!"]
    assert rig.store.read() == before


async def test_a_settled_or_released_lease_is_lost(rig: Rig) -> None:
    a, b = await rig.running("a", "b")
    await rig.settle(a, Complete(b"1"))
    await rig.settle(b, Release(CancelCause.SHUTDOWN))
    before = rig.store.read()
    assert await rig.broker.extend([a, b]) == ["!", "!"]
    assert rig.store.read() == before


async def test_a_reaped_lease_is_lost_even_before_somebody_else_has_it(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    rig.clock.move(ms=TERMS.lease_ms)
    await rig.broker.reap()
    assert await rig.broker.extend([lease]) == ["!"]
    assert rig.store["running"] == {}


async def test_an_expired_lease_that_was_not_reaped_can_be_renewed(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    rig.clock.move(ms=2 * TERMS.lease_ms)
    assert await rig.broker.extend([lease]) == [""]
    assert await rig.broker.reap() == []


async def test_a_holder_hears_of_a_cancel_and_keeps_the_lease(rig: Rig) -> None:
    a, b = await rig.running("a", "b")
    await rig.broker.cancel("b", cause="user")
    rig.clock.move(ms=1)
    assert await rig.broker.extend([a, b]) == ["", "user"]
    assert await rig.broker.extend([a, b]) == ["", "user"]
    assert rig.store["running"] == {"a": rig.clock.ms + TERMS.lease_ms, "b": rig.clock.ms + TERMS.lease_ms}


async def test_nothing_to_renew(rig: Rig) -> None:
    assert await rig.broker.extend([]) == []


async def test_more_leases_than_lua_takes_arguments(rig: Rig) -> None:
    """WORKER_CONCURRENCY may be 10,000."""
    (lease,) = await rig.running("a")
    leases = [_with(lease, id=f"nobody{n}") for n in range(9_999)] + [lease]
    rig.clock.move(ms=1)
    assert await rig.broker.extend(leases) == ["!"] * 9_999 + [""]
    assert rig.store["running"] == {"a": rig.clock.ms + TERMS.lease_ms}


def _with(lease: Lease, **changed: object) -> Lease:
    return msgspec.structs.replace(lease, **changed)
