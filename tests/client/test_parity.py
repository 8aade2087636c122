"""The three clients answer the same to the same odd items."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
import trio

from taskward.client import Client, open_blocking_client, open_client
from taskward.client.fields import Item
from taskward.errors import Conflict, InvalidTask, TaskTooLarge, TaskwardError, UnreadableBody
from taskward.task import Submitted
from tests.api.conftest import Api


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


ODD: list[tuple[dict[str, Any], type[Any]]] = [
    ({"type": "echo"}, Submitted),
    ({"type": "echo", "payload": 2**70}, UnreadableBody),
    ({"type": "echo", "payload": -(2**63) - 1}, UnreadableBody),
    ({"type": "echo", "payload": 2**64 - 1}, Submitted),
    ({"type": "echo", "payload": "\ud800"}, UnreadableBody),
    ({"type": "echo", "payload": {1: "a", "1": "b"}}, UnreadableBody),
    ({"type": "echo", "payload": nested(62)}, Submitted),
    ({"type": "echo", "payload": nested(63)}, Submitted),
    ({"type": "echo", "payload": nested(64)}, UnreadableBody),
    ({"type": "echo", "payload": nested(300)}, UnreadableBody),
    ({"type": "echo", "payload": "x" * 300_000}, TaskTooLarge),
    ({"type": "echo", "id": None}, Submitted),
    ({"type": "echo", "id": ""}, InvalidTask),
    ({"type": "echo", "id": "a"}, Submitted),
    ({"type": "other", "id": "a"}, Conflict),
    ({"type": ""}, InvalidTask),
    ({"type": "echo", "priority": "urgent"}, InvalidTask),
    ({"type": "echo", "color": "red"}, InvalidTask),
    ({}, InvalidTask),
]
ITEMS = [cast(Item, item) for item, _ in ODD]
EXPECTED = [kind for _, kind in ODD]


async def answers_of(client: str, items: list[Item], *, api: Api, redis_url: str) -> list[Any]:
    """What `submit_many` of one kind of client answers."""

    def over_http() -> list[Any]:
        with Client(api.url) as over_http:
            return over_http.submit_many(items)

    def blocking() -> list[Any]:
        with open_blocking_client(redis_url, queue=api.config.queue) as blocking:
            return blocking.submit_many(items)

    if client == "async":
        async with open_client(redis_url, queue=api.config.queue) as local:
            return await local.submit_many(items)
    return await trio.to_thread.run_sync(over_http if client == "http" else blocking)


CLIENTS = ("http", "async", "blocking")


@pytest.mark.parametrize("client", CLIENTS)
async def test_odd_items_among_many(client: str, api: Api, redis_url: str) -> None:
    plain: list[Item] = [{"type": "echo"}] * 700
    answers = await answers_of(client, [*plain, *ITEMS, *plain], api=api, redis_url=redis_url)
    assert [type(answer) for answer in answers] == [Submitted] * 700 + EXPECTED + [Submitted] * 700
    assert await api.stored() == sum(isinstance(answer, Submitted) for answer in answers)


@pytest.mark.parametrize("client", CLIENTS)
async def test_an_odd_item_alone(client: str, api: Api, redis_url: str) -> None:
    for (item, kind), before in zip(ODD, predecessors(), strict=True):
        answers = await answers_of(client, [*before, cast(Item, item)], api=api, redis_url=redis_url)
        assert type(answers[-1]) is kind, item
        if isinstance(answers[-1], TaskwardError):
            assert str(answers[-1])


def predecessors() -> Iterator[list[Item]]:
    """What has to be there before."""
    for _, kind in ODD:
        yield [{"type": "echo", "id": "a"}] if kind is Conflict else []
