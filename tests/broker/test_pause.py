"""pause.lua: a set of names, and somebody who is woken when there may be work again."""

import redis

from tests.support.rig import Rig


async def test_on_and_off_and_on_again(rig: Rig) -> None:
    await rig.submit("a")
    before = rig.store.read()
    for _ in range(2):
        await rig.broker.pause("high")
        assert rig.store.read() == before | {"paused": {"high"}}
    for n in (1, 2):
        await rig.broker.resume("high")
        assert rig.store.read() == before | {"wake": ["1"] * (1 + n)}


async def test_it_works_without_memory(rig: Rig, client: "redis.Redis") -> None:
    """Then of all times somebody may want to stop what fills it."""
    client.config_set("maxmemory", 1)
    try:
        await rig.broker.pause("low")
        await rig.broker.pause("high")
        await rig.broker.resume("high")
        assert await rig.broker.paused() == {"low"}
    finally:
        client.config_set("maxmemory", "0")
