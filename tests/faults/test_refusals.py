"""Redis is there and says no: each kind of no is sat out, and what can go on goes on."""

from collections.abc import Callable

import pytest
import trio

from taskward.broker.embedded import free_port
from taskward.events import OutageBegan, TaskStarted
from tests.faults.server import Server
from tests.faults.site import RESUMED_SECONDS, Site, unavailable


async def test_the_scripts_are_flushed(site: Site) -> None:
    """Nobody notices: a script the server has lost is sent again."""
    async with site.running():
        held = await site.hold_one()
        for n in range(5):
            site.server.admin.script_flush()
            id = await site.submit("note", payload=n)
            assert (await site.until_done(id))["result"] == n
        site.let_go.set()
        await site.until_done(held)
    assert not site.said.of(OutageBegan)
    assert set(site.runs.values()) == {1}


async def test_redis_has_become_a_replica_and_is_a_primary_again(site: Site) -> None:
    async with site.running():
        await site.rides_out(
            lambda: site.server.admin.replicaof("127.0.0.1", free_port()),
            lambda: site.server.admin.replicaof("NO", "ONE"),
        )


async def test_after_a_failover_the_address_leads_to_the_new_primary(site: Site, second: Server) -> None:
    """READONLY drops the connections: else they would stay with the old primary for ever."""
    site.server.admin.config_set("repl-diskless-sync-delay", "0")
    second.admin.replicaof("127.0.0.1", site.server.port)
    async with site.running():
        id = await site.hold_one()
        with trio.fail_after(10):
            while second.admin.info("replication")["master_link_status"] != "up":
                await trio.sleep(0.02)
        assert site.server.admin.wait(1, 5000) == 1
        site.proxy.target = second.port
        second.admin.replicaof("NO", "ONE")
        site.server.admin.replicaof("127.0.0.1", second.port)
        site.let_go.set()
        assert (await site.until_done(id))["result"] == "held out"
        fresh = await site.submit("note", payload=1)
        assert (await site.until_done(fresh))["result"] == 1
    assert site.runs == {id: 1, fresh: 1}
    assert second.admin.info("replication")["role"] == "master"


async def test_redis_is_out_of_memory(site: Site) -> None:
    """Submissions are refused; what is there is run to its end, and that makes room."""
    async with site.running():
        held = await site.hold_one()
        waiting = [await site.submit("note", delay_seconds=0.5) for _ in range(5)]
        site.server.admin.config_set("maxmemory", "1")
        unavailable(await site.post("note"))
        site.let_go.set()
        for id in [held, *waiting]:
            assert (await site.until_done(id))["state"] == "succeeded"
        unavailable(await site.post("note"))
        site.server.admin.config_set("maxmemory", "0")
        assert (await site.post("note")).status_code == 202
    assert not [event for event in site.said.of(OutageBegan) if event.part in ("worker", "keeper", "reaper")]


@pytest.mark.parametrize(
    "reply",
    [
        b"-LOADING Valkey is loading the dataset in memory\r\n",
        b"-BUSY Valkey is busy running a script.\r\n",
        b"-MISCONF Errors writing to the AOF file: No space left on device\r\n",
        b"-NOREPLICAS Not enough good replicas to write.\r\n",
        b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
        b"-CLUSTERDOWN The cluster is down\r\n",
    ],
    ids=lambda reply: reply.split()[0].decode().strip("-"),
)
async def test_redis_answers_that_it_cannot_serve_now(wired: Site, reply: bytes) -> None:
    async with wired.running():
        await wired.rides_out(says(wired, reply), says(wired, None))


async def test_redis_is_loading_its_data_by_the_other_way(site: Site) -> None:
    reply = b"-LOADING Valkey is loading the dataset in memory\r\n"
    async with site.running():
        await site.rides_out(says(site, reply), says(site, None))


async def test_connections_that_are_half_open(wired: Site, hasty: None) -> None:
    """No byte passes on them and nobody is told; they are given up after one call's patience each."""
    async with wired.running():
        held = await wired.hold_one()
        wired.proxy.forget_all()
        began = trio.current_time()
        id = await wired.submit("note", payload=1)
        await wired.said.wait_for(TaskStarted, where=lambda event: event.lease.id == id)
        assert trio.current_time() - began < 2 * 0.5 + RESUMED_SECONDS
        wired.let_go.set()
        assert (await wired.until_done(held))["result"] == "held out"
        assert (await wired.until_done(id))["result"] == 1
        await wired.every_outage_was_said_once()
    assert set(wired.runs.values()) == {1}


async def test_a_cancel_that_cannot_be_heard_comes_with_the_next_renewal(wired: Site, hasty: None) -> None:
    """The connection on which a worker hears of cancels says nothing by itself: nobody knows that it is half-open."""
    async with wired.running(lease_ms=1500):
        id = await wired.hold_one()
        wired.proxy.forget_all()
        while (answer := await wired.http.post(f"/tasks/{id}/cancel", params={"wait": 5})).status_code == 503:
            pass
    assert (answer.json()["state"], answer.json()["cancel_cause"]) == ("cancelled", "user")


def says(site: Site, reply: bytes | None) -> Callable[[], None]:
    """Every request gets this answer from now on; None: the server's."""

    def change() -> None:
        site.proxy.answer = reply

    return change
