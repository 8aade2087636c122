"""Redis Cluster: API, worker and clients find the node that has their queue, and find it again."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from taskward.broker.connection import open_connection
from taskward.broker.lifeline import Lifeline
from taskward.client import blocking, open_blocking_client
from taskward.config import Config
from taskward.errors import BrokerUnavailable
from taskward.events import OutageBegan, TaskStarted
from tests.faults.site import LEASE_MS, QUEUE, Site, open_site, outcomes
from tests.support.cluster import Clustered, clustered

in_thread = trio.to_thread.run_sync


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Clustered]:
    """Three primaries and a replica, running."""
    async with clustered(tmp_path, queue=QUEUE) as cluster:
        yield cluster


@pytest.fixture
async def site(cluster: Clustered) -> AsyncIterator[Site]:
    """API and worker, which know two nodes that do not have their queue."""
    async with open_site(cluster.owner, url=cluster.url) as site:
        yield site


async def test_the_node_that_has_the_queue_is_killed(
    cluster: Clustered, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "PATIENCE_SECONDS", 0.1)
    lifeline = Lifeline(Config(redis_url=cluster.url, queue=QUEUE, lease_ms=LEASE_MS))
    with open_blocking_client(cluster.url, queue=QUEUE) as client:
        async with site.running():
            held = await site.hold_one()
            lease = (await site.said.wait_for(TaskStarted)).lease
            assert lifeline.extend([lease]) == [""]
            later = (await in_thread(lambda: client.submit("note", "later", delay_seconds=1))).id
            await cluster.replicated()
            await cluster.kill_owner()
            await site.said.wait_for(OutageBegan, where=lambda event: event.part == "wake")
            site.let_go.set()  # it ends while nobody can be told
            with pytest.raises(BrokerUnavailable):
                lifeline.extend([lease])
            with pytest.raises(BrokerUnavailable):
                await in_thread(client.submit, "note")
            await cluster.promoted()
            await cluster.settled()
            for id, result in ((held, "held out"), (later, "later")):
                task = await site.until_done(id)
                assert (task["result"], outcomes(task)) == (result, ["succeeded"])
            assert (await in_thread(client.get, held)).state == "succeeded"
            await site.goes_on()
            await site.every_outage_was_said_once()
    assert set(site.runs.values()) == {1}
    lifeline.close()


async def test_the_queue_is_given_to_another_node(cluster: Clustered, site: Site) -> None:
    """While its keys are on two nodes nobody can use it; nobody closes the connections for us."""
    [*_, to] = cluster.others
    async with site.running():
        held = await site.hold_one()
        await in_thread(cluster.migrate, to)
        await site.goes_on()
        site.let_go.set()
        assert outcomes(await site.until_done(held)) == ["succeeded"]
    assert set(site.runs.values()) == {1}


async def test_no_node_knows_who_has_the_queue(cluster: Clustered) -> None:
    """An outage like any other; the reason is told."""
    url = f"redis+cluster://127.0.0.1:{cluster.owner.port}"
    cluster.owner.admin.execute_command("CLUSTER FLUSHSLOTS")
    with pytest.raises(BrokerUnavailable, match="nobody has slot"):
        Lifeline(Config(redis_url=url, queue=QUEUE, lease_ms=LEASE_MS)).extend([])
    async with open_connection(url, name="tests", queue=QUEUE) as connection:
        with pytest.raises(BrokerUnavailable, match="which of them has the queue"):
            await connection.command("PING")
