"""A task as server-sent events: what it is, what becomes of it, and nothing twice."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest
import trio

from taskward.api import task_events
from taskward.broker.broker import Broker
from taskward.client.view import TaskView
from taskward.errors import BrokerUnavailable
from taskward.events import BrokerCalled
from taskward.policy.retry import Complete, RetryIn
from taskward.task import Progress
from tests.api.conftest import Api
from tests.support.watching import until


class Stream:
    """The events of an answer, one by one, as a browser's EventSource takes them."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.last_id = ""
        self._lines = answer.aiter_lines()

    async def next(self) -> TaskView:
        """Fails where there is no other."""
        task = await self._read()
        assert task is not None
        return task

    async def comment(self) -> None:
        """Wait for the next one."""
        with trio.fail_after(10):
            async for line in self._lines:
                if line == ":":
                    return

    async def ended(self) -> bool:
        """Whether nothing more comes."""
        return await self._read() is None

    async def _read(self) -> TaskView | None:
        data = None
        with trio.fail_after(10):
            async for line in self._lines:
                match line.split(": ", 1):
                    case ["id", id]:
                        self.last_id = id
                    case ["data", text]:
                        data = msgspec.json.decode(text, type=TaskView)
                    case [""] if data is not None:
                        return data
        return None


@asynccontextmanager
async def events(api: Api, id: str, *, known: str = "") -> AsyncIterator[Stream]:
    """Open the stream of a task."""
    headers = {"Last-Event-ID": known} if known else {}
    async with api.http.stream("GET", f"/tasks/{id}/events", headers=headers) as answer:
        yield Stream(answer)


def looks(api: Api) -> int:
    """How often the API has read tasks."""
    return sum(isinstance(event, BrokerCalled) and event.op == "get" for event in api.events)


async def test_it_tells_all_that_becomes_of_a_task(api: Api) -> None:
    id = await api.submit()
    async with events(api, id) as stream:
        assert stream.answer.headers["Content-Type"].startswith("text/event-stream")
        seen = [await stream.next()]
        [lease] = await api.claim()
        seen.append(await stream.next())
        await api.broker.progress(lease, b'{"current":1,"total":2,"message":"half"}')
        seen.append(await stream.next())
        await api.settle(lease, RetryIn(0.0, "exception"))
        seen.append(await stream.next())
        [second] = await api.claim()
        seen.append(await stream.next())
        await api.settle(second, Complete(b'"done"'))
        seen.append(await stream.next())
        assert await stream.ended()
    assert [task.state for task in seen] == ["queued", "running", "running", "retrying", "running", "succeeded"]
    assert (seen[2].progress, seen[-1].result) == (Progress(1, 2, "half"), "done")


async def test_its_head_alone_is_answered_at_once(api: Api) -> None:
    id = await api.submit()
    for _ in range(2):  # the second finds the connection as it should be
        with trio.fail_after(5):
            answer = await api.http.head(f"/tasks/{id}/events")
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert (await api.http.head("/tasks/none/events")).status_code == 404


async def test_a_client_that_comes_back_hears_what_is_new(api: Api) -> None:
    id = await api.submit()
    async with events(api, id) as stream:
        await stream.next()
        known = stream.last_id
    [lease] = await api.claim()
    async with events(api, id, known=known) as stream:
        task = await stream.next()
        assert task.state == "running"
        known = stream.last_id
    async with events(api, id, known=known) as stream:
        await api.settle(lease, Complete(b"1"))
        task = await stream.next()
        assert task.state == "succeeded"
        known = stream.last_id
    answer = await api.http.get(f"/tasks/{id}/events", headers={"Last-Event-ID": known})
    assert (answer.status_code, answer.content) == (204, b"")


async def test_a_browser_that_comes_back_after_the_end_costs_nothing(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """No body has to be read in a thread of asyncio's: there is no asyncio here, and its absence ended the process."""
    id = await api.submit()
    [lease] = await api.claim()
    await api.settle(lease, Complete(b"1"))
    async with events(api, id) as stream:
        await stream.next()
        known = stream.last_id
    answer = await api.http.get(f"/tasks/{id}/events", headers={"Last-Event-ID": known})
    assert answer.status_code == 204
    gc.collect()
    assert (await api.http.get("/healthz")).status_code == 200
    assert caplog.records == []


async def test_a_renewed_lease_is_no_news(api: Api) -> None:
    await api.submit()
    [lease] = await api.claim()
    async with events(api, lease.id) as stream:
        await stream.next()
        await api.broker.extend([lease])
        seen = looks(api)
        await until(lambda: looks(api) >= seen + 2, seconds=10)
        await api.settle(lease, Complete(b"1"))
        task = await stream.next()
        assert task.state == "succeeded"


async def test_a_silent_stream_says_that_it_lives(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_events, "SILENT_SECONDS", 0.1)
    id = await api.submit()
    async with events(api, id) as stream:
        await stream.next()
        await stream.comment()
        await stream.comment()
        await api.http.post(f"/tasks/{id}/cancel")
        task = await stream.next()
        assert task.state == "cancelled"


async def test_it_outlives_an_outage(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskward.client.gateway.PATIENCE_SECONDS", 0)
    id = await api.submit()
    async with events(api, id) as stream:
        await stream.next()
        with monkeypatch.context() as patched:
            asked: list[object] = []

            async def gone(*_: object, **__: object) -> None:
                asked.append(None)
                raise BrokerUnavailable

            patched.setattr(Broker, "call", gone)
            await until(lambda: len(asked) > 2, seconds=10)
        await api.http.post(f"/tasks/{id}/cancel")
        task = await stream.next()
        assert task.state == "cancelled"


async def test_it_ends_with_a_task_that_is_removed(api: Api) -> None:
    id = await api.submit()
    async with events(api, id) as stream:
        await stream.next()
        [lease] = await api.claim()
        await stream.next()
        await api.broker.connection.command("FLUSHALL")
        assert lease.id == id
        assert await stream.ended()


async def test_it_does_not_hold_up_the_end_of_the_api(api: Api) -> None:
    id = await api.submit()
    async with events(api, id) as stream:
        await stream.next()
        api.stop.set()
        with trio.fail_after(3):
            assert await stream.ended()


async def test_a_task_that_is_not_there_is_a_problem(api: Api) -> None:
    answer = await api.http.get("/tasks/nobody/events")
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/problem+json")


async def test_nothing_runs_for_a_client_that_has_left(api: Api) -> None:
    id = await api.submit()
    before = trio.lowlevel.current_statistics().tasks_living
    for _ in range(5):
        async with (
            httpx.AsyncClient(base_url=api.url) as leaving,
            leaving.stream("GET", f"/tasks/{id}/events") as answer,
        ):
            await Stream(answer).next()
    await until(lambda: trio.lowlevel.current_statistics().tasks_living <= before, seconds=10)
