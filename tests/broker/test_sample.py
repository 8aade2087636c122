"""sample.lua: depths are cardinalities, ages come from the oldest."""

import pytest
import redis

from taskward.events import PrioritySample
from taskward.policy.retry import Bury, Complete, RetryIn
from tests.support.rig import Rig


async def test_an_empty_queue_shows_its_zeros(rig: Rig) -> None:
    sample = await rig.broker.sample()
    assert sample.priorities == tuple(PrioritySample(name, 0, 0, 0, 0, None, None) for name in ("high", "low"))
    assert (sample.running, sample.cancelling, sample.finished, sample.workers) == (0, 0, 0, 0)
    assert sample.at_ms == rig.clock.ms
    assert sample.took >= 0
    assert 0 < sample.memory < 0.5  # of the machine's


async def test_memory_is_the_share_of_what_redis_may_use(rig: Rig, client: "redis.Redis") -> None:
    client.config_set("maxmemory", 4 * client.info("memory")["used_memory"])
    try:
        assert (await rig.broker.sample()).memory == pytest.approx(0.25, abs=0.05)
    finally:
        client.config_set("maxmemory", "0")


async def test_every_place_is_counted(rig: Rig) -> None:
    done, dead, retrying, _, _ = await rig.running("done", "dead", "retrying", "running", "cancelling")
    await rig.settle(done, Complete(b"1"))
    await rig.settle(dead, Bury("exception"))
    await rig.settle(retrying, RetryIn(5.0, "exception"))
    await rig.broker.cancel("cancelling", cause="user")
    await rig.submit("queued", "queued2", priority="low")
    await rig.submit("scheduled", priority="low", delay_ms=99_000)
    rig.clock.move(ms=6000)
    await rig.broker.report("w1", b"{}")
    sample = await rig.broker.sample()
    assert sample.priorities == (
        PrioritySample("high", 0, 0, 1, 1, None, 1.0),
        PrioritySample("low", 2, 1, 0, 0, 6.0, None),
    )
    assert (sample.running, sample.cancelling, sample.finished, sample.workers) == (2, 1, 1, 1)


async def test_what_is_paused(rig: Rig) -> None:
    await rig.broker.pause("low")
    assert [p.paused for p in (await rig.broker.sample()).priorities] == [False, True]


async def test_a_retry_that_is_not_due_is_not_overdue(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    await rig.settle(lease, RetryIn(5.0, "exception"))
    assert (await rig.broker.sample()).priorities[0].retry_overdue == 0.0


async def test_a_silent_worker_does_not_count(rig: Rig) -> None:
    await rig.broker.report("w1", b"{}")
    rig.clock.move(ms=15_000)
    assert (await rig.broker.sample()).workers == 1
    rig.clock.move(ms=1)
    assert (await rig.broker.sample()).workers == 0
