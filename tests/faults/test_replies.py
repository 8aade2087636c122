"""A request is carried out and its answer is lost, or torn: it is sent again, and nothing happens twice."""

from collections.abc import Sequence
from typing import Any

import pytest
import trio

from taskward.broker import script
from taskward.client import blocking
from taskward.client.fields import Item
from taskward.client.gateway import Answer
from taskward.client.local import parsed
from taskward.events import LeaseWasLost, OutageBegan, TaskReaped, TaskStarted
from taskward.task import Submitted
from tests.faults.site import CONCURRENCY, QUEUE, Site, State, outcomes, unavailable

# How much of the reply comes through: nothing and a clean end, or its first bytes and a reset.
KEPT = pytest.mark.parametrize("keep", [0, 3], ids=["lost", "torn"])


@KEPT
async def test_the_reply_to_submit(site: Site, keep: int) -> None:
    async with site.running():
        gone = await site.lose_reply("submit", keep=keep)
        answer = await site.post("note", idempotency_key="once")
        assert gone.sprung.is_set()
        assert answer.status_code in (200, 202)
        again = await site.post("note", idempotency_key="once")
        assert (again.status_code, again.json()["id"]) == (200, answer.json()["id"])
        await site.until_done(answer.json()["id"])
    assert site.runs == {answer.json()["id"]: 1}


@KEPT
async def test_the_reply_to_a_claim(site: Site, keep: int) -> None:
    async with site.running():
        first = await site.submit("note")
        await site.until_done(first)
        gone = await site.lose_reply("step", keep=keep)
        await gone.caught.wait()  # the worker sleeps in the store: its claim is answered when there is something
        id = await site.submit("note", payload=1)
        task = await site.until_done(id)
        assert gone.sprung.is_set()
    assert (task["result"], outcomes(task)) == (1, ["succeeded"])
    assert site.runs == {first: 1, id: 1}


@KEPT
async def test_the_reply_to_a_settlement(site: Site, keep: int) -> None:
    async with site.running():
        id = await site.hold_one()
        gone = await site.lose_reply("step", keep=keep)
        site.let_go.set()
        task = await site.until_done(id)
        await gone.sprung.wait()
        others = [await site.submit("note") for _ in range(3)]
        for other in others:
            await site.until_done(other)
    assert (task["result"], outcomes(task)) == ("held out", ["succeeded"])
    assert set(site.runs.values()) == {1}
    assert not site.said.of(LeaseWasLost)
    assert not site.said.of(TaskReaped)


@KEPT
async def test_the_reply_to_a_renewal(site: Site, keep: int) -> None:
    async with site.running(lease_ms=1500):
        gone = await site.lose_reply("extend", keep=keep)
        id = await site.hold_one()
        first_end = (await site.worker.task(id)).lease_expires_ms
        await gone.sprung.wait()
        await site.said.wait_for(OutageBegan, where=lambda event: event.part == "keeper")
        with trio.fail_after(5):
            while (await site.worker.task(id)).lease_expires_ms == first_end:
                await trio.sleep(0.02)
        site.let_go.set()
        assert outcomes(await site.until_done(id)) == ["succeeded"]
    assert site.runs == {id: 1}


@KEPT
async def test_the_reply_to_a_cancel(site: Site, keep: int) -> None:
    """A cancel is not repeated for the client: it hears 503, and repeats it."""
    async with site.running():
        id = await site.hold_one()
        gone = await site.lose_reply("cancel", keep=keep)
        unavailable(await site.http.post(f"/tasks/{id}/cancel"))
        assert gone.sprung.is_set()
        again = await site.http.post(f"/tasks/{id}/cancel", params={"wait": 5})
    assert again.json()["state"] == "cancelled"
    assert site.runs == {id: 1}


@KEPT
async def test_the_reply_to_a_progress_report(site: Site, keep: int) -> None:
    async with site.running():
        gone = await site.lose_reply("progress", keep=keep)
        id = await site.submit("tell")
        await site.said.wait_for(TaskStarted)
        await gone.sprung.wait()
        with trio.fail_after(10):
            while (await site.worker.task(id)).progress is None:
                await trio.sleep(0.02)
        site.let_go.set()
        assert outcomes(await site.until_done(id)) == ["succeeded"]
    assert site.runs == {id: 1}


@KEPT
@pytest.mark.parametrize("part", range(4))
async def test_the_reply_to_a_part_of_a_batch(
    wired: Site, monkeypatch: pytest.MonkeyPatch, keep: int, part: int
) -> None:
    """By a thread's client, which has two parts under way. All go in once, in their order."""
    gone = []

    def made(items: Sequence[Item], *args: Any) -> list[Any]:
        if items[0]["payload"] == part * blocking.PART:
            gone.append(wired.proxy.tear_reply(script.load("submit").sha.encode(), keep=keep))
        return parsed(items, *args)

    monkeypatch.setattr(blocking, "parsed", made)
    items: list[Item] = [{"type": "note", "payload": n, "id": f"n{n}"} for n in range(4 * blocking.PART)]

    def submit() -> list[Answer]:
        with blocking.open_blocking_client(wired.proxy.url, queue=QUEUE) as client:
            client.submit("note", id="before")
            return client.submit_many(items)

    answers = await trio.to_thread.run_sync(submit)
    assert [trap.sprung.is_set() for trap in gone] == [True]
    assert answers == [
        Submitted(item["id"], created=answer.created) for item, answer in zip(items, answers, strict=True)
    ]
    [ready, *_] = wired.worker.broker.keys.family("ready")[1:]
    stored = await trio.to_thread.run_sync(wired.server.admin.zrange, ready, 0, -1)
    assert stored == ["before", *(item["id"] for item in items)]


async def test_a_submission_that_is_overtaken_by_its_own_repetition(wired: Site, hasty: None) -> None:
    """It arrives when the task has run: there is no second one."""
    async with wired.running():
        late = await wired.hold_request("submit")
        id = await wired.submit("note", idempotency_key="once")
        await wired.until_done(id)
        late.deliver.set()
        await late.answered.wait()
        assert (await wired.post("note", idempotency_key="once")).json()["id"] == id
        assert (await wired.worker.broker.sample()).finished == 1
    assert wired.runs == {id: 1}


async def test_a_claim_that_is_overtaken_by_its_own_repetition(wired: Site, hasty: None) -> None:
    """It arrives when the worker has long claimed again, and has no slot free: it claims nothing."""
    async with wired.running():
        late = await wired.hold_request("step")
        first = await wired.submit("note")
        await wired.until_done(first)
        held = [await wired.hold_one() for _ in range(CONCURRENCY)]
        waiting = await wired.submit("note")
        late.deliver.set()
        await late.answered.wait()
        assert (await wired.worker.task(waiting)).state is State.QUEUED
        wired.let_go.set()
        for id in (*held, waiting):
            assert outcomes(await wired.until_done(id)) == ["succeeded"]
    assert set(wired.runs.values()) == {1}
