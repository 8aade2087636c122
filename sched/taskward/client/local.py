"""AsyncClient: the client inside a Trio program, which talks to Redis itself."""

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, Unpack

import trio

from taskward.broker.broker import Broker
from taskward.broker.connection import open_connection
from taskward.broker.wire import LOOK_SECONDS
from taskward.client.ahead import made_ahead
from taskward.client.fields import Item, Options, encode
from taskward.client.gateway import Answer, Gateway, in_parts
from taskward.client.view import TaskView, view
from taskward.config import Config
from taskward.errors import TaskwardError, UnreadableBody
from taskward.events import ignore
from taskward.submission import Limits, parse, parse_many, parse_or_error
from taskward.task import State, Submission, Submitted


class AsyncClient:
    """Submits and looks after tasks. Every method raises BrokerUnavailable when Redis does not answer."""

    def __init__(self, gateway: Gateway, limits: Limits) -> None:
        self._gateway = gateway
        self._limits = limits

    async def submit(self, type: str, payload: Any = None, **options: Unpack[Options]) -> Submitted:
        """Raises InvalidTask, TaskTooLarge, Conflict and QueueFull. Safe to repeat with the same `id`."""
        body = encode(Item(type=type, payload=payload, **options))
        return await self._gateway.submit(parse(body, self._limits, now_ms()))

    async def submit_many(self, items: Sequence[Item]) -> list[Answer]:
        """One answer an item, an error in its place where it was not taken. Raises InvalidTask for what is no JSON."""
        parts = in_parts(items)
        bodies = [encode(part) for part in parts]
        with _ungrouped():
            async with trio.open_nursery() as parsing:
                parsed = made_ahead(self._parse_parts(parts, bodies), parsing, most=1)
                answers = await self._gateway.submit_parts(parsed)
        return answers

    async def _parse_parts(
        self, parts: list[Sequence[Item]], bodies: list[bytes]
    ) -> AsyncIterator[Sequence[Submission | TaskwardError]]:
        for part, body in zip(parts, bodies, strict=True):
            yield parsed(part, body, self._limits)

    async def get(self, id: str) -> TaskView:
        """Raises TaskNotFound."""
        return view(await self._gateway.get(id), now_ms())

    async def wait(self, id: str, *, seconds: float) -> TaskView:
        """The task as soon as it is terminal, or else as it is after `seconds`. Raises TaskNotFound."""
        return view(await self._gateway.wait(id, seconds=seconds), now_ms())

    async def cancel(self, id: str) -> State:
        """-> the state it is in now: `cancelling` while its worker stops it. Raises TaskNotFound."""
        return await self._gateway.cancel(id)


@asynccontextmanager
async def open_client(redis_url: str, *, config: Config | None = None, queue: str = "") -> AsyncIterator[AsyncClient]:
    """A client for as long as the block runs. `config` has the priorities and limits of the service; `queue`, where
    given, stands for its queue.
    """
    config = settings(config, queue)
    with _ungrouped():
        async with (
            open_connection(
                redis_url, name="taskward-client", queue=config.queue, look_seconds=LOOK_SECONDS
            ) as connection,
            trio.open_nursery() as background,
        ):
            broker = Broker.of(config, connection, observe=ignore)
            gateway = Gateway(broker, observe=ignore)
            background.start_soon(gateway.run)
            yield AsyncClient(gateway, Limits.of(config))
            background.cancel_scope.cancel()


@contextmanager
def _ungrouped() -> Iterator[None]:
    """An error of the block comes out as it went in, not in the groups of nurseries the caller knows nothing of."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            [error] = error.exceptions
        raise error from error.__cause__


def settings(config: Config | None, queue: str) -> Config:
    """What a client goes by: `config` or the defaults, with another queue where one is named."""
    config = config or Config()
    return replace(config, queue=queue) if queue else config


def parsed(part: Sequence[Item], body: bytes, limits: Limits) -> list[Submission | TaskwardError]:
    """A part of a batch whose JSON is `body`: each checked as the API checks it, with its error in its place."""
    try:
        return parse_many(body, limits, now_ms())
    except UnreadableBody:
        return [parse_or_error(encode(item), limits, now_ms()) for item in part]


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000
