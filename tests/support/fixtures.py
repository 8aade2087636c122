"""The fixtures of the tests that need a real server; the conftest of each folder takes them from here."""

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from taskward.broker.connection import Connection, open_connection
from taskward.broker.embedded import blocking_embedded_server
from tests.support.rig import Rig

_numbers = itertools.count()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server for the whole run."""
    with blocking_embedded_server(tmp_path_factory.mktemp("valkey"), fsync="no") as url:
        yield url


@pytest.fixture(scope="session")
def client(redis_url: str) -> Iterator["redis.Redis"]:
    """For looking at raw keys."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[Connection]:
    """As the processes open it."""
    async with open_connection(redis_url, name="tests") as connection:
        yield connection


@pytest.fixture
def queue() -> str:
    """A queue nobody else uses."""
    return f"q{next(_numbers)}"


@pytest.fixture
def rig(connection: Connection, client: "redis.Redis", queue: str) -> Iterator[Rig]:
    """A Broker on an empty queue."""
    rig = Rig(connection, client, queue=queue)
    yield rig
    rig.store.clear()
