"""Broker: what does not belong to one script: the look at the server, pauses, markers, and what is observed."""

import pytest
import trio

from taskward.broker import script
from taskward.broker.broker import TRUSTED_SHARE, Terms
from taskward.config import Config
from taskward.errors import BrokerRefused, BrokerUnavailable
from taskward.events import BrokerCalled
from taskward.policy.retry import Bury, Complete, Release, RetryIn
from taskward.task import CancelCause, Submitted
from tests.support.rig import Rig


async def test_terms_come_from_the_settings() -> None:
    config = Config(lease_ms=1234, max_reaps=7)
    assert Terms.of(config) == Terms(
        1234, config.result_ttl_ms, config.dlq_ttl_ms, config.idempotency_ttl_ms, 7, 0, 1000, 0
    )


async def test_calls_are_observed(rig: Rig) -> None:
    await rig.submit("a")
    (seen,) = rig.seen
    assert isinstance(seen, BrokerCalled)
    assert (seen.op, seen.error) == ("submit", None)
    assert 0 < seen.seconds < 60


async def test_a_server_that_may_evict_is_refused(rig: Rig) -> None:
    assert await rig.broker.check() == []
    config = rig.store.client
    config.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert await rig.broker.check() == []  # no limit, no eviction
        config.config_set("maxmemory", "4gb")
        with pytest.raises(BrokerRefused, match="noeviction"):
            await rig.broker.check()
    finally:
        config.config_set("maxmemory", "0")
        config.config_set("maxmemory-policy", "noeviction")


async def test_a_server_that_forgets_is_warned_of(rig: Rig) -> None:
    rig.store.client.config_set("appendonly", "no")
    try:
        (warning,) = await rig.broker.check()
        assert "appendonly" in warning
    finally:
        rig.store.client.config_set("appendonly", "yes")


async def test_pause_and_resume(rig: Rig) -> None:
    assert await rig.broker.paused() == frozenset()
    await rig.broker.pause("high")
    await rig.broker.pause("high")
    assert rig.store.read() == {"paused": {"high"}}
    await rig.broker.resume("high")
    assert rig.store.read() == {"wake": ["1"]}


async def test_a_sleeper_claims_as_soon_as_there_is_work(rig: Rig) -> None:
    woken: list[str] = []

    async def sleep(worker: str) -> None:
        woken.extend(lease.id for lease in await rig.claim(worker=worker, asleep=30.0))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for worker in ("w1", "w2"):
                nursery.start_soon(sleep, worker)
            await rig.until_asleep(2)
            await rig.submit("a")
            while woken != ["a"]:
                await trio.sleep(0.01)
            assert rig.store.client.info("clients")["blocked_clients"] == 1  # a marker wakes one
            await rig.submit("b")
    assert woken == ["a", "b"]


async def test_a_burst_reaches_more_sleepers_than_there_may_be_markers(rig: Rig) -> None:
    sleepers = 70
    claimed: list[str] = []

    async def sleep(worker: str) -> None:
        claimed.extend(lease.id for lease in await rig.claim(worker=worker, asleep=30.0))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for n in range(sleepers):
                nursery.start_soon(sleep, f"w{n}")
            await rig.until_asleep(sleepers)
            await rig.submit(*[f"{n:02}" for n in range(sleepers)])
    assert sorted(claimed) == [f"{n:02}" for n in range(sleepers)]


async def test_a_sleeper_looks_by_itself_in_the_end(rig: Rig) -> None:
    await rig.submit("a")
    rig.store.client.delete(rig.store.key("wake"))
    assert [lease.id for lease in await rig.claim(asleep=0.01)] == ["a"]


async def test_a_sleep_does_not_eat_up_a_lease(rig: Rig) -> None:
    began = trio.current_time()
    hasty = rig.broker_with(lease_ms=500)
    await hasty.step([], worker="w1", number=1, shares=[1, 0], wanted=1, asleep=30.0)
    assert trio.current_time() - began < 0.5 * TRUSTED_SHARE


@pytest.mark.parametrize(
    "decision", [Complete(b"null"), RetryIn(0.0, "asked"), Bury("discarded"), Release(CancelCause.LEASE_LOST)]
)
async def test_every_verb_survives_a_flush_of_the_scripts(rig: Rig, decision: Complete) -> None:
    def flush() -> None:
        rig.store.client.script_flush()

    flush()
    assert await rig.submit("a") == [Submitted("a", created=True)]
    flush()
    (lease,) = await rig.claim()
    flush()
    assert await rig.broker.extend([lease]) == [""]
    flush()
    assert await rig.broker.progress(lease, b"{}")
    flush()
    assert await rig.settle(lease, decision) in "STDQ"
    flush()
    assert (await rig.broker.sample()).running == 0
    (exists,) = rig.store.client.script_exists(script.load("sample").sha)
    assert exists  # sending it once has brought it back


async def test_an_unavailable_server_is_observed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unavailable(*args: object, **_options: object) -> None:
        raise BrokerUnavailable

    monkeypatch.setattr(rig.connection, "run", unavailable)
    with pytest.raises(BrokerUnavailable):
        await rig.submit("a")
    assert [(event.op, event.error) for event in rig.seen if isinstance(event, BrokerCalled)] == [
        ("submit", "unavailable")
    ]
