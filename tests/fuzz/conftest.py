"""The two ports of a service, in this process, and what it holds open."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from taskward.api.server import run_api
from taskward.broker.broker import Broker, Terms
from taskward.broker.connection import Connection
from taskward.config import Config
from taskward.events import ignore
from taskward.telemetry.metrics import Metrics
from taskward.telemetry.scrape import serve_scrapes


@dataclass(frozen=True, slots=True)
class Ports:
    """Where they are."""

    api: int
    scrape: int


def open_files() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/dev/fd").iterdir()))


OpenPorts = Callable[..., AbstractAsyncContextManager[Ports]]


@pytest.fixture
def open_ports(connection: Connection, queue: str) -> OpenPorts:
    """Serve, with settings of one's own, for as long as the block."""

    @asynccontextmanager
    async def open_them(**settings: Any) -> AsyncIterator[Ports]:
        config = Config(queue=queue, api_addr="127.0.0.1:0", metrics_sample_ms=50, **settings)
        names = config.priority_names
        broker = Broker(connection, queue=queue, priorities=names, terms=Terms.of(config), observe=ignore)
        metrics = Metrics("api", priorities=names, types=(), instance_id="fuzz", version="0")
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            [url] = await nursery.start(partial(run_api, config, broker, observe=ignore, stop=stop))
            async with trio.open_nursery() as scraping:
                [listener] = await scraping.start(
                    partial(serve_scrapes, metrics, host="127.0.0.1", port=0, ready=lambda: (True, {}))
                )
                yield Ports(int(url.rpartition(":")[2]), listener.socket.getsockname()[1])
                scraping.cancel_scope.cancel()
            stop.set()

    return open_them


@pytest.fixture
async def ports(open_ports: OpenPorts) -> AsyncIterator[Ports]:
    """The API and a scrape port, as production has them."""
    async with open_ports() as ports:
        yield ports
