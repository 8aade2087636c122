"""The auditor: a sound store gives no finding, each way to break one gives its own."""

from collections import Counter
from typing import Any

import pytest
import trio

from taskward.broker.connection import open_connection
from taskward.events import Audited, Trouble
from taskward.maintenance.auditor import Finding, audit, auditor
from taskward.policy.retry import Bury, Cancel, Complete, RetryIn
from taskward.task import CancelCause
from tests.support.rig import Rig
from tests.support.store import record


async def every_state(rig: Rig) -> None:
    """One task in each of the states, and one that has been through some."""
    succeeded, dying, cancelled, retrying, _running = await rig.running("a", "b", "c", "d", "e")
    await rig.settle(succeeded, Complete(b"1"))
    await rig.settle(dying, Bury("exception"))
    await rig.settle(cancelled, Cancel(CancelCause.USER))
    await rig.settle(retrying, RetryIn(60.0, "exception"))
    await rig.submit("h", expires_ms=rig.clock.ms + 10)
    rig.clock.move(ms=20)
    assert await rig.claim(1) == []
    await rig.submit("f", "i")
    await rig.submit("g", delay_ms=60_000)
    await rig.broker.cancel("e", cause="user")
    await rig.broker.redrive(["b"])


async def test_a_sound_store_has_no_findings(rig: Rig) -> None:
    await every_state(rig)
    looked_at, findings = await audit(rig.broker, repair=False)
    assert (looked_at, findings) == (9, [])


BROKEN = {
    "a task in no place": (("ZREM", "ready:high", "f"), "missing_place", "queued"),
    "a place without a task": (("HDEL", "spec", "f"), "missing_spec", "removed"),
    "a record without a task": (("HSET", "record", "ghost", record("Q")), "missing_spec", "removed"),
    "an ended record without a task": (("HSET", "ended", "ghost", record("S")), "missing_spec", "removed"),
    "two places": (("ZADD", "retry:high", "1", "f"), "two_places", "left"),
    "running, but no lease": (("ZREM", "running", "e"), "running_without_lease", "queued"),
    "finished, but in no place": (("ZREM", "done", "a"), "missing_place", "kept"),
    "queued, says that it runs": (("HSET", "record", "f", record("R")), "stale_record", "left"),
    "running, says that it is done": (("HSET", "record", "e", record("S")), "stale_record", "left"),
    "running, and ended as well": (("HSET", "ended", "e", record("S")), "stale_record", "left"),
    "ended, and running as well": (("HSET", "record", "a", record("R")), "stale_record", "left"),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_each_way_to_break_the_store_is_found_and_repaired_where_that_is_safe(rig: Rig, broken: str) -> None:
    (command, key, *rest), kind, done = BROKEN[broken]
    await every_state(rig)
    await rig.connection.command(command, rig.store.key(key), *rest)
    before = rig.store.read()
    _, findings = await audit(rig.broker, repair=False)
    assert [(finding.kind, finding.done) for finding in findings] == [(kind, "left")]
    assert rig.store.read() == before
    _, findings = await audit(rig.broker, repair=True)
    assert Finding(findings[0].id, kind, done) in findings
    _, findings = await audit(rig.broker, repair=False)
    assert (findings == []) == (done != "left")


async def test_a_dead_task_that_lost_its_place_stays_dead(rig: Rig) -> None:
    (lease,) = await rig.running("pill")
    await rig.settle(lease, Bury("exception"))
    await rig.connection.command("ZREM", rig.store.key("dead:high"), "pill")
    assert (await audit(rig.broker, repair=True))[1] == [Finding("pill", "missing_place", "kept")]
    assert await rig.claim(1) == []
    assert list(rig.store["dead:high"]) == ["pill"]
    assert (await audit(rig.broker, repair=False))[1] == []


async def test_a_repaired_task_runs_again(rig: Rig) -> None:
    await rig.running("lost")
    await rig.connection.command("ZREM", rig.store.key("running"), "lost")
    await audit(rig.broker, repair=True)
    assert [lease.id for lease in await rig.claim(1)] == ["lost"]


@pytest.mark.parametrize("novalues", [True, False], ids=["a new server", "an old server"])
@pytest.mark.parametrize("wire", [True, False], ids=["wire", "redis-py"])
async def test_it_reads_ids_and_no_payloads_and_finds_each_on_every_server(
    rig: Rig, redis_url: str, monkeypatch: pytest.MonkeyPatch, wire: bool, novalues: bool
) -> None:
    await rig.submit(*(f"t{n}" for n in range(601)))
    rig.store.client.delete(rig.store.key("ready:high"))
    async with open_connection(redis_url, name="tests", wire=wire) as connection:
        command, replies = connection.command, []

        async def spied(*parts: Any) -> Any:
            if "NOVALUES" in parts and not novalues:
                parts = (*parts[:-1], "NO SUCH WORD")
            replies.append(await command(*parts))
            return replies[-1]

        monkeypatch.setattr(connection, "command", spied)
        looked_at, findings = await audit(rig.broker.over(connection), repair=False)
    assert (looked_at, len(findings)) == (601, 601)
    if novalues:
        assert not any(b";" in entry for _, entries in replies for entry in entries if isinstance(entry, bytes))


async def test_the_auditor_goes_through_everything_in_slices_and_tells_the_sums(rig: Rig) -> None:
    for n in range(30):
        await rig.submit(*(f"t{n}-{m}" for m in range(20)))
    await rig.connection.command("ZREM", rig.store.key("ready:high"), "t3-3", "t4-4")
    tick = auditor(rig.broker, rig.seen.append, slices=1)
    ticks = 0
    with trio.fail_after(30):
        while not (sums := [event for event in rig.seen if isinstance(event, Audited)]):
            await tick()
            ticks += 1
    assert ticks > 3
    assert sums[0].violations["missing_place"] == 2
    said = [event for event in rig.seen if isinstance(event, Trouble)]
    assert sum(Counter(int(str(event.fields["count"])) for event in said).elements()) >= 2
