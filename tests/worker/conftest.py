"""A worker around an App of the test's own, on a real server."""

from collections.abc import AsyncIterator

import pytest

from taskward.broker.connection import Connection
from tests.support.fixtures import client, connection, queue, redis_url
from tests.worker.workshop import Workshop

__all__ = ["client", "connection", "queue", "redis_url"]


@pytest.fixture
async def workshop(connection: Connection, queue: str, redis_url: str) -> AsyncIterator[Workshop]:
    """Not running yet: `async with workshop.working():`."""
    yield Workshop(connection, queue=queue, redis_url=redis_url)
    await connection.command("FLUSHALL")
