"""report.lua and what Broker.workers makes of it: who lives, and since when we have not heard of whom."""

from taskward.broker.broker import Broker
from taskward.events import ignore
from tests.support.rig import PRIORITIES, TERMS, Rig


async def test_a_worker_says_that_it_lives(rig: Rig) -> None:
    await rig.broker.report("w1", b'{"n":1}')
    rig.clock.move(ms=7)
    await rig.broker.report("w1", b'{"n":2}')
    await rig.broker.report("w2", b"{}")
    assert rig.store.read() == {
        "workers": {"w1": '{"n":2}', "w2": "{}"},
        "workers_seen": {"w1": rig.clock.ms, "w2": rig.clock.ms},
    }


async def test_a_worker_that_leaves_takes_everything_along(rig: Rig) -> None:
    await rig.broker.report("w1", b"{}")
    await rig.broker.report("w2", b"{}")
    await rig.claim(worker="w1")
    await rig.broker.report("w1", b"")
    assert rig.store.read() == {"workers": {"w2": "{}"}, "workers_seen": {"w2": rig.clock.ms}}


async def test_workers_shows_each_with_its_silence(rig: Rig) -> None:
    broker = Broker(rig.connection, queue=rig.queue, priorities=PRIORITIES, terms=TERMS, observe=ignore)
    await broker.report("w1", b'{"n":1}')
    await broker.report("w2", b"{}")
    rig.store.client.hdel(rig.store.key("workers"), "w2")
    (entry,) = (await broker.workers()).items()
    id, (silence_ms, info) = entry
    assert (id, info) == ("w1", b'{"n":1}')
    assert 0 <= silence_ms < 60_000


async def test_nobody_is_there(rig: Rig) -> None:
    assert await rig.broker.workers() == {}
