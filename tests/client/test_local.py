"""The client inside a Trio program."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskward.broker.broker import Broker
from taskward.client import AsyncClient, open_client
from taskward.client.fields import Item
from taskward.config import Config
from taskward.errors import BrokerUnavailable, Conflict, InvalidTask, QueueFull, TaskNotFound, UnreadableBody
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


async def test_very_many_go_in_part_by_part_in_their_order(local: AsyncClient, broker: Broker) -> None:
    items: list[Item] = [{"type": "echo", "payload": n} for n in range(2000)]
    items[1500] = {"type": "echo", "payload": {1: "a", "1": "b"}}  # type: ignore[dict-item] # one key, as JSON
    answers = await local.submit_many(items)
    assert [n for n, answer in enumerate(answers) if not isinstance(answer, Submitted)] == [1500]
    assert isinstance(answers[1500], UnreadableBody)
    queued = await broker.connection.command("ZRANGE", broker.keys.family("ready")[1], 0, -1)
    assert [id.decode() for id in queued] == [answer.id for answer in answers if isinstance(answer, Submitted)]


async def test_where_one_is_no_json_nothing_is_stored(local: AsyncClient, broker: Broker) -> None:
    items: list[Item] = [{"type": "echo", "payload": None}] * 1000
    with pytest.raises(InvalidTask, match="not JSON"):
        await local.submit_many([*items, {"type": "echo", "payload": float("nan")}])
    assert (await broker.sample()).priorities[1].queued == 0


async def test_an_outage_is_the_answer_of_what_was_not_stored(
    local: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    store = Broker.store

    async def failing(broker: Broker, packed: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != 1:
            raise BrokerUnavailable
        return await store(broker, packed)

    monkeypatch.setattr(Broker, "store", failing)
    items: list[Item] = [{"type": "echo"}, {"type": ""}] * 600
    answers = await local.submit_many(items)
    assert [type(answer) for answer in answers[:512:2]] == [Submitted] * 256
    assert [type(answer) for answer in answers[512::2]] == [BrokerUnavailable] * 344
    assert {type(answer) for answer in answers[1::2]} == {InvalidTask}
    with pytest.raises(BrokerUnavailable):
        await local.submit_many(items)


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
