"""Tasks put into the store ahead of a run."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import uuid_utils

from bench.server import PRIORITIES, Server
from taskward.broker.broker import MOST_PER_CALL, Broker, Terms
from taskward.broker.connection import open_connection
from taskward.config import Config
from taskward.events import ignore
from taskward.task import Spec, Submission, Submitted


@asynccontextmanager
async def open_broker(url: str) -> AsyncIterator[Broker]:
    """The store as the processes under test see it."""
    config = Config()
    async with open_connection(url, name="bench") as connection:
        yield Broker(connection, queue=config.queue, priorities=PRIORITIES, terms=Terms.of(config), observe=ignore)


def preload(server: Server, n: int, spec: Spec) -> None:
    """Submit `n` tasks of one kind."""
    trio.run(_preload, server.url, n, spec)


async def _preload(url: str, n: int, spec: Spec) -> None:
    async with open_broker(url) as broker:
        for first in range(0, n, MOST_PER_CALL):
            part = submissions(min(MOST_PER_CALL, n - first), spec)
            assert all(isinstance(answer, Submitted) for answer in await broker.submit(part))


def submissions(n: int, spec: Spec) -> list[Submission]:
    """With new ids."""
    return [Submission(str(uuid_utils.uuid7()), spec) for _ in range(n)]
