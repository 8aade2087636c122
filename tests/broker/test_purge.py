"""purge.lua: what waits in one priority ends; what runs, what has ended and what waits elsewhere stays as it is."""

from taskward.policy.retry import Bury, RetryIn
from tests.support.rig import TERMS, Rig
from tests.support.store import record


async def test_everything_that_waits_in_a_priority_is_cancelled(rig: Rig) -> None:
    retrying, _running, dead = await rig.running("retrying", "running", "dead")
    await rig.settle(retrying, RetryIn(9.0, "exception"), b'{"n":1}')
    await rig.settle(dead, Bury("exception"), b'{"n":1}')
    for id, fields in {"queued": {}, "scheduled": {"delay_ms": 5000}, "low": {"priority": "low"}}.items():
        await rig.submit(id, **fields)
    before = rig.store.read()
    rig.clock.move(ms=10)
    assert await rig.broker.purge("high", most=10, cause="user") == 3
    after = rig.store.read()
    kept_until = rig.clock.ms + TERMS.result_ttl_ms
    assert after["done"] == dict.fromkeys(("queued", "scheduled", "retrying"), kept_until)
    end = {"finished": rig.clock.ms, "cause": "user"}
    assert after["ended"]["queued"] == record("C", attempt=0, queued=rig.clock.us, **end)
    assert after["ended"]["retrying"] == record(
        "C", worker="w1", queued=retrying.queued_us, started=retrying.started_us // 1000, **end
    )
    assert not {"queued", "scheduled", "retrying"} & after["record"].keys()
    for key in ("running", "dead:high", "ready:low", "history", "spec"):
        assert after[key] == before[key]
    assert not {"ready:high", "scheduled:high", "retry:high"} & set(after)
    assert await rig.broker.purge("high", most=10, cause="user") == 0
    assert rig.store.read() == after


async def test_at_most_so_many_what_is_ready_first(rig: Rig) -> None:
    await rig.submit("later", delay_ms=5000)
    for id in ("a", "b", "c"):
        await rig.submit(id)
    assert await rig.broker.purge("high", most=2, cause="user") == 2
    assert set(rig.store["done"]) == {"a", "b"}
    assert await rig.broker.purge("high", most=2, cause="user") == 2
    assert await rig.broker.purge("high", most=2, cause="user") == 0
