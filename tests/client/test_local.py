"""The client inside a Trio program."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from taskward.broker.broker import Broker
from taskward.client import AsyncClient, open_client
from taskward.config import Config
from taskward.errors import Conflict, InvalidTask, QueueFull, TaskNotFound
from taskward.task import State, Submitted


@pytest.fixture
async def local(redis_url: str, queue: str) -> AsyncIterator[AsyncClient]:
    async with open_client(redis_url, queue=queue) as local:
        yield local


async def test_a_task_goes_in_and_is_seen(local: AsyncClient, broker: Broker) -> None:
    submitted = await local.submit("echo", {"a": 1}, priority="high", tags=["x"])
    assert submitted.created
    task = await local.get(submitted.id)
    assert (task.type, task.payload, task.priority, task.tags) == ("echo", {"a": 1}, "high", ("x",))
    assert (await broker.sample()).priorities[0].queued == 1


async def test_instants_may_be_datetimes(local: AsyncClient) -> None:
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    submitted = await local.submit("echo", run_at=due)
    task = await local.get(submitted.id)
    assert (task.state, task.run_at) == (State.SCHEDULED, due.isoformat().replace("+00:00", ".000Z"))
    with pytest.raises(InvalidTask) as caught:
        await local.submit("echo", run_at=due.replace(tzinfo=None))
    assert caught.value.pointer == "/run_at"


async def test_the_checks_are_those_of_the_api(local: AsyncClient, broker: Broker) -> None:
    for payload in (float("nan"), {1, 2}, b"x", object()):
        with pytest.raises(InvalidTask, match="not JSON"):
            await local.submit("echo", payload)
    with pytest.raises(InvalidTask) as caught:
        await local.submit("echo", priority="urgent")
    assert caught.value.pointer == "/priority"
    assert (await broker.sample()).priorities[0].queued == 0


async def test_many_go_in_together(local: AsyncClient) -> None:
    items = [{"type": "echo", "payload": n} for n in range(3)]
    more = [{"type": "echo", "id": "a"}, {"type": ""}, {"type": "other", "id": "a"}]
    answers = await local.submit_many([*items, *more])  # type: ignore[list-item]
    assert [type(answer) for answer in answers] == [Submitted] * 4 + [InvalidTask, Conflict]


async def test_a_task_is_waited_for_and_cancelled(local: AsyncClient) -> None:
    id = (await local.submit("echo", delay_seconds=60)).id
    assert (await local.wait(id, seconds=0.01)).state is State.SCHEDULED
    assert await local.cancel(id) is State.CANCELLED
    assert (await local.wait(id, seconds=10)).terminal


async def test_errors_come_as_they_are_not_in_groups(redis_url: str, queue: str) -> None:
    with pytest.raises(TaskNotFound):
        async with open_client(redis_url, queue=queue) as local:
            await local.get("none")


async def test_a_full_queue_is_told(redis_url: str, queue: str) -> None:
    async with open_client(redis_url, config=Config(max_queue_depth=1), queue=queue) as local:
        await local.submit("echo")
        with pytest.raises(QueueFull):
            await local.submit("echo")
