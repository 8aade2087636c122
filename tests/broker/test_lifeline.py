"""Lifeline: the watchdog's thread renews what the loop cannot."""

from pathlib import Path

import pytest
import trio

from taskward.broker.broker import Broker
from taskward.broker.embedded import free_port
from taskward.broker.lifeline import Lifeline
from taskward.config import Config
from taskward.errors import BrokerUnavailable
from taskward.events import ignore
from tests.support.rig import PRIORITIES, TERMS, Rig, task


async def test_it_renews_from_another_thread(rig: Rig, redis_url: str) -> None:
    broker = Broker(rig.connection, queue=rig.queue, priorities=PRIORITIES, terms=TERMS, observe=ignore)
    await broker.submit([task("a"), task("b")])
    a, b = (await broker.step([], worker="w1", number=1, shares=[2, 0], wanted=2)).leases
    await broker.cancel("b", cause="user")
    before = rig.store["running"]
    lifeline = Lifeline(Config(redis_url=redis_url, queue=rig.queue, lease_ms=10 * TERMS.lease_ms))
    try:
        assert await trio.to_thread.run_sync(lifeline.extend, [a, b]) == ["", "user"]
    finally:
        lifeline.close()
    assert all(rig.store["running"][id] - before[id] > 8 * TERMS.lease_ms for id in "ab")


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    lifeline = Lifeline(Config(redis_url=f"redis://127.0.0.1:{free_port()}/0"))
    with pytest.raises(BrokerUnavailable):
        lifeline.extend([])
    lifeline.close()
