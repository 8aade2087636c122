"""Sentinel makes another server the primary: API and worker go on there by themselves."""

import itertools
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from taskward.broker import connection
from taskward.broker.connection import open_connection
from taskward.broker.lifeline import Lifeline
from taskward.client import blocking, open_blocking_client
from taskward.config import Config
from taskward.errors import BrokerUnavailable
from taskward.events import OutageBegan, OutageEnded, TaskStarted
from taskward.task import Spec, Submission, Submitted
from tests.end_to_end.system import Cluster, Process
from tests.faults.site import LEASE_MS, Site, open_site, outcomes
from tests.support.sentinel import SERVICE, Replicated, replicated, role


@pytest.fixture(params=[1, 3], ids=["one sentinel", "three sentinels"])
async def group(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Replicated]:
    """A primary, its replica and their sentinels, running."""
    async with replicated(tmp_path, sentinels=request.param) as group:
        yield group


@pytest.fixture
async def site(group: Replicated) -> AsyncIterator[Site]:
    """API and worker, over the sentinels."""
    async with open_site(group.servers[0], url=group.url) as site:
        yield site


in_thread = trio.to_thread.run_sync
one_sentinel = pytest.mark.parametrize("group", [1], indirect=True, ids=["one sentinel"])
three_sentinels = pytest.mark.parametrize("group", [3], indirect=True, ids=["three sentinels"])


async def test_the_primary_is_killed(group: Replicated, site: Site) -> None:
    one, two = group.servers
    async with site.running():
        held = await site.hold_one()
        later = await site.submit("note", payload="later", delay_seconds=1)
        await group.replicated()
        await one.kill()
        await site.said.wait_for(OutageBegan, where=lambda event: event.part == "wake")
        site.let_go.set()  # it ends while nobody can be told
        await group.promoted(two)
        for id, result in ((held, "held out"), (later, "later")):
            task = await site.until_done(id)
            assert (task["result"], outcomes(task)) == (result, ["succeeded"])
        await site.goes_on()
        await site.every_outage_was_said_once()
    assert set(site.runs.values()) == {1}


@one_sentinel
async def test_the_primary_is_killed_under_load(group: Replicated, site: Site) -> None:
    """What was acknowledged and had reached the replica is done, and so is what the new primary acknowledges."""
    one, two = group.servers
    async with site.running(), load(site) as acknowledged:
        await acknowledged.more(50)
        before = acknowledged.ids()
        await group.replicated()
        await one.kill()
        await group.promoted(two)
        promoted = trio.current_time()
        await acknowledged.more(50)
        await acknowledged.stop()
        await all_done(site, before + acknowledged.ids(since=promoted))
        await site.every_outage_was_said_once()


@one_sentinel
async def test_a_primary_that_needs_a_replica_takes_nothing_once_that_is_promoted(
    group: Replicated, site: Site
) -> None:
    """With min-replicas-to-write: else a primary that lives on acknowledges what is lost when it is demoted."""
    one, two = group.servers
    async with site.running(), load(site) as acknowledged:
        await acknowledged.more(50)
        before = acknowledged.ids()
        await group.replicated()
        one.admin.config_set("min-replicas-to-write", "1")
        group.sentinels[0].ask("FAILOVER", SERVICE)
        while role(two) != "master":
            await trio.sleep(0.001)
        promoted = trio.current_time()
        await acknowledged.more(50)
        await group.settled(two, one)
        await acknowledged.stop()
        await all_done(site, before + acknowledged.ids(since=promoted))


@one_sentinel
async def test_a_coordinated_failover_under_load_loses_nothing(group: Replicated, site: Site) -> None:
    """Valkey's, from version 9 on: the primary takes no writes until the replica has caught up."""
    one, two = group.servers
    if int(one.admin.info("server").get("valkey_version", "0").partition(".")[0]) < 9:
        pytest.skip("SENTINEL FAILOVER ... COORDINATED needs Valkey 9")
    async with site.running(), load(site) as acknowledged:
        await acknowledged.more(50)
        group.sentinels[0].ask("FAILOVER", SERVICE, "COORDINATED")
        await group.settled(two, one)
        await acknowledged.more(50)
        await acknowledged.stop()
        await all_done(site, acknowledged.ids())


@one_sentinel
async def test_a_primary_that_waits_for_its_replica_loses_nothing_in_a_failover(group: Replicated, site: Site) -> None:
    """WAIT_REPLICAS: the old primary, which lives on, can acknowledge nothing once its replica has been promoted."""
    one, two = group.servers
    async with site.running(wait_replicas=1), load(site) as acknowledged:
        await acknowledged.more(50)
        group.sentinels[0].ask("FAILOVER", SERVICE)
        await group.settled(two, one)
        await acknowledged.more(50)
        await acknowledged.stop()
        await all_done(site, acknowledged.ids())


@one_sentinel
@pytest.mark.parametrize("wire", [True, False], ids=["our own wire", "redis-py"])
async def test_nothing_is_accepted_that_the_replica_does_not_have(
    group: Replicated, monkeypatch: pytest.MonkeyPatch, wire: bool
) -> None:
    """Nor when it is submitted again: it is there then, but its first writing may still be on its way."""
    monkeypatch.setattr(connection, "REPLICAS_MS", 100)
    one, two = group.servers
    task = Submission("a", Spec(type="note", idempotency_key="once"))
    async with open_site(one, url=one.url, wire=wire) as site:
        broker = site.worker.broker_with(wait_replicas=1)
        assert await broker.submit([task]) == [Submitted("a", created=True)]
        two.freeze()
        for again in (task, Submission("b", task.spec), Submission("c", Spec(type="note"))):
            with pytest.raises(BrokerUnavailable, match="0 of 1 replicas"):
                await broker.submit([again])
        two.thaw()
        await group.replicated()
        assert await broker.submit([task]) == [Submitted("a", created=False)]
        assert await broker.submit([Submission("c", Spec(type="note"))]) == [Submitted("c", created=False)]
        assert two.admin.hget(broker.keys("spec"), "c")


@one_sentinel
async def test_the_primary_is_frozen_and_comes_back_as_a_replica(
    group: Replicated, site: Site, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody closes the connections to it: each finds out by itself."""
    monkeypatch.setattr(connection, "LISTEN_SECONDS", 0.5)
    one, two = group.servers
    async with site.running():
        held = await site.hold_one()
        await group.replicated()
        one.freeze()
        await site.said.wait_for(OutageBegan, where=lambda event: event.part == "wake")
        await group.promoted(two)
        await site.said.wait_for(OutageEnded, where=lambda event: event.part == "cancels")
        await site.goes_on()
        one.thaw()
        await group.settled(two, one)
        await site.goes_on()
        site.let_go.set()
        assert outcomes(await site.until_done(held)) == ["succeeded"]
        await site.every_outage_was_said_once()
    assert set(site.runs.values()) == {1}


@one_sentinel
async def test_the_primaries_change_places_and_back(group: Replicated, site: Site) -> None:
    """By an operator's SENTINEL FAILOVER: both servers are there all the time, but only one takes writes."""
    one, two = group.servers
    async with site.running():
        held = await site.hold_one()
        for old, new in ((one, two), (two, one)):
            await group.replicated()
            group.sentinels[0].ask("FAILOVER", SERVICE)
            await group.settled(new, old)
            await site.goes_on()
        site.let_go.set()
        assert outcomes(await site.until_done(held)) == ["succeeded"]


@one_sentinel
async def test_the_primary_is_made_a_replica_by_hand(group: Replicated, site: Site) -> None:
    """READONLY, for as long as Sentinel does not know better; nobody closes the connections for us."""
    one, two = group.servers
    async with site.running():
        held = await site.hold_one()
        await group.replicated()
        two.admin.replicaof("NO", "ONE")
        one.admin.replicaof("127.0.0.1", two.port)
        await site.said.wait_for(OutageBegan, where=lambda event: event.part == "wake")
        site.let_go.set()
        await group.promoted(two)
        assert outcomes(await site.until_done(held)) == ["succeeded"]
        await site.goes_on()
        await site.every_outage_was_said_once()
    assert set(site.runs.values()) == {1}


@three_sentinels
@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_one_of_the_sentinels_is_gone_as_well(group: Replicated, site: Site, fault: str) -> None:
    one, two = group.servers
    gone = group.sentinels[0]
    async with site.running():
        await site.goes_on()
        await group.replicated()
        group.sentinels.remove(gone)
        if fault == "killed":
            await gone.kill()
        else:
            gone.freeze()
        await one.kill()
        await site.said.wait_for(OutageBegan, where=lambda event: event.part == "wake")
        await group.promoted(two)
        await site.goes_on()
        await site.every_outage_was_said_once()
        gone.close()


@one_sentinel
async def test_the_watchdog_finds_the_new_primary(group: Replicated, site: Site) -> None:
    one, two = group.servers
    lifeline = Lifeline(Config(redis_url=group.url, queue=site.worker.queue, lease_ms=LEASE_MS))
    async with site.running():
        held = await site.hold_one()
        lease = (await site.said.wait_for(TaskStarted)).lease
        assert lifeline.extend([lease]) == [""]
        await group.replicated()
        await one.kill()
        with pytest.raises(BrokerUnavailable):
            lifeline.extend([lease])
        await group.promoted(two)
        assert lifeline.extend([lease]) == [""]
        site.let_go.set()
        await site.until_done(held)
    lifeline.close()


@one_sentinel
async def test_a_client_without_trio_finds_the_new_primary(group: Replicated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "PATIENCE_SECONDS", 0.1)
    one, two = group.servers
    with open_blocking_client(group.url, queue="site") as client:
        before = await in_thread(client.submit, "note")
        await group.replicated()
        await one.kill()
        with pytest.raises(BrokerUnavailable):
            await in_thread(client.submit, "note")
        await group.promoted(two)
        assert (await in_thread(client.submit, "note")).created
        assert (await in_thread(client.get, before.id)).type == "note"


@one_sentinel
async def test_api_and_worker_as_processes(group: Replicated, tmp_path: Path) -> None:
    one, two = group.servers
    system = Cluster(tmp_path, group.url, METRICS_SAMPLE_MS="200")
    try:
        api_process, api = await in_thread(system.api)
        worker_process, _ = await in_thread(system.worker)
        ids = await in_thread(
            api.submit_many, [{"type": "sleep", "payload": {"seconds": 0.1}, "delay_seconds": 1}] * 50
        )
        await group.replicated()
        await one.kill()
        await group.promoted(two)
        done = await in_thread(api.until_done, ids)
        assert {task["state"] for task in done.values()} == {"succeeded"}
        for process in (api_process, worker_process):
            await every_outage_is_logged_once(process)
            assert await in_thread(process.stop) == 0
    finally:
        system.close()


@one_sentinel
async def test_servers_with_a_password(group: Replicated) -> None:
    group.sentinels[0].ask("SET", SERVICE, "auth-pass", "secret")
    for server in group.servers:
        server.admin.config_set("masterauth", "secret")
        server.admin.config_set("requirepass", "secret")
    for url in (group.url, group.url.replace("//", "//:wrong@")):
        with pytest.raises(BrokerUnavailable):
            Lifeline(Config(redis_url=url)).extend([])
        async with open_connection(url, name="tests") as stranger:
            with pytest.raises(BrokerUnavailable):
                await stranger.command("PING")
    url = group.url.replace("//", "//:secret@")
    assert Lifeline(Config(redis_url=url)).extend([]) == []
    async with open_connection(url, name="tests") as connection, connection.subscription("channel"):
        assert await connection.command("ECHO", "here") == b"here"


@one_sentinel
async def test_a_primary_that_needs_no_replica_is_warned_of(group: Replicated, site: Site) -> None:
    (warning,) = await site.worker.broker.check()
    assert "min-replicas-to-write" in warning
    assert await site.worker.broker_with(wait_replicas=1).check() == []
    (warning,) = await site.worker.broker_with(wait_replicas=2).check()
    assert "no task is accepted" in warning
    group.servers[0].admin.config_set("min-replicas-to-write", "1")
    assert await site.worker.broker.check() == []


@one_sentinel
async def test_nothing_stays_open(group: Replicated) -> None:
    (watcher,) = group.sentinels
    before = {seen["id"] for seen in watcher.admin.client_list()}
    async with open_connection(group.url, name="tests") as connection, connection.subscription("channel"):
        await connection.command("PING")
        assert {seen["id"] for seen in watcher.admin.client_list()} > before
    with trio.fail_after(5):
        while not {seen["id"] for seen in watcher.admin.client_list()} <= before:
            await trio.sleep(0.01)


class Acknowledged:
    """When each submission was begun that was acknowledged, and the id of its task."""

    def __init__(self, clients: trio.CancelScope) -> None:
        self.tasks: list[tuple[float, str]] = []
        self.stopped = trio.Event()
        self._clients = clients

    def ids(self, *, since: float = -math.inf) -> list[str]:
        """Of those begun since then."""
        return [id for began, id in self.tasks if began >= since]

    async def more(self, count: int) -> None:
        """Until so many more were begun and acknowledged."""
        now = trio.current_time()
        with trio.fail_after(10):
            while len(self.ids(since=now)) < count:
                await trio.sleep(0.01)

    async def stop(self) -> None:
        """No more of them."""
        self._clients.cancel()
        await self.stopped.wait()


@asynccontextmanager
async def load(site: Site) -> AsyncIterator[Acknowledged]:
    """Clients that submit until they are stopped, each repeating what was not acknowledged."""
    clients = trio.CancelScope()
    acknowledged = Acknowledged(clients)

    async def submit_for_ever(client: int) -> None:
        for n in itertools.count():
            began = trio.current_time()
            acknowledged.tasks.append((began, await site.submit("note", idempotency_key=f"{client}-{n}")))

    async def run() -> None:
        with clients:
            async with trio.open_nursery() as nursery:
                for client in range(8):
                    nursery.start_soon(submit_for_ever, client)
        acknowledged.stopped.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        yield acknowledged


async def all_done(site: Site, ids: Sequence[str]) -> None:
    """None of them is lost."""
    ends = Counter([(await site.until_done(id))["state"] for id in ids])
    assert ends == {"succeeded": len(set(ids))}


async def every_outage_is_logged_once(process: Process) -> None:
    """One line at its beginning and one at its end, for each part of the process."""
    with trio.fail_after(10):
        while parts(process, "does not answer") != parts(process, "answers again"):
            await trio.sleep(0.05)
    began = parts(process, "does not answer")
    assert began
    assert set(began.values()) == {1}, process.output()


def parts(process: Process, words: str) -> Counter[str]:
    """Who said so in the log, and how often."""
    return Counter(re.findall(rf"redis {words} part=(\w+)", process.output()))
