"""The two ports of a service, in this process, and what it holds open."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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


@pytest.fixture
async def ports(connection: Connection, queue: str) -> AsyncIterator[Ports]:
    """The API and a scrape port, as production has them."""
    config = Config(queue=queue, api_addr="127.0.0.1:0", metrics_sample_ms=50)
    broker = Broker(connection, queue=queue, priorities=config.priority_names, terms=Terms.of(config), observe=ignore)
    metrics = Metrics("api", priorities=config.priority_names, types=(), instance_id="fuzz", version="0")
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
