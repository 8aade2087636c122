"""A site to ill-treat."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskward.broker import connection
from taskward.broker.connection import Connection
from taskward.client import gateway
from taskward.worker import pool
from tests.faults.server import Server
from tests.faults.site import Site, open_site

HASTY_SECONDS = 0.5


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server of the test's own, running."""
    server = Server(tmp_path / "data")
    await server.start()
    yield server
    server.close()


@pytest.fixture
async def second(tmp_path: Path) -> AsyncIterator[Server]:
    """Another server."""
    server = Server(tmp_path / "second")
    await server.start()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits: for a marker, whose end tells the end of an outage too, and for Redis before the API says 503."""
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.5)
    monkeypatch.setattr(gateway, "PATIENCE_SECONDS", 0.3)


@pytest.fixture(params=["wire", "redis-py"])
async def site(request: pytest.FixtureRequest, server: Server) -> AsyncIterator[Site]:
    """With both ways to talk to a server."""
    async with open_site(server, wire=request.param == "wire") as site:
        yield site


@pytest.fixture
async def wired(server: Server) -> AsyncIterator[Site]:
    """With the usual way alone, where the other would take long to tell the same."""
    async with open_site(server, wire=True) as site:
        yield site


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls wait half a second for an answer instead of five."""
    monkeypatch.setattr(Connection._call, "__kwdefaults__", {"patience": HASTY_SECONDS})
    monkeypatch.setattr(connection, "CALL_SECONDS", HASTY_SECONDS)
