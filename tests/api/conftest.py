"""The API as it runs in production, on a free port, and an HTTP client for it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import trio

from taskward.api.server import run_api
from taskward.api.service import Traces
from taskward.broker.broker import Broker, Terms
from taskward.broker.connection import Connection
from taskward.broker.messages import Settlement
from taskward.config import Config
from taskward.events import Event, HttpAnswered
from taskward.policy.retry import Bury, Decision
from taskward.task import Lease

PATIENCE = 20.0


class Events(list[Event]):
    """What was observed so far."""

    def __init__(self) -> None:
        super().__init__()
        self._came = trio.Event()

    def append(self, event: Event) -> None:
        super().append(event)
        self._came.set()

    async def wait_for(self, fits: Callable[[Event], bool]) -> Event:
        """The first that fits, past or to come; fails after a while."""
        with trio.fail_after(PATIENCE):
            while True:
                for event in self:
                    if fits(event):
                        return event
                self._came = trio.Event()
                await self._came.wait()


@dataclass
class Api:
    """A running API: its client, its store, and what it told its observer."""

    http: httpx.AsyncClient
    broker: Broker
    config: Config
    stop: trio.Event
    events: Events = field(default_factory=Events)
    _claims: int = 0

    @property
    def url(self) -> str:
        return str(self.http.base_url).rstrip("/")

    @property
    def answered(self) -> list[HttpAnswered]:
        """What was told of answers so far."""
        return [event for event in self.events if isinstance(event, HttpAnswered)]

    @property
    def port(self) -> int:
        assert self.http.base_url.port is not None
        return self.http.base_url.port

    async def submit(self, type: str = "echo", **fields: Any) -> str:
        """-> the id of a new task."""
        answer = await self.http.post("/tasks", json={"type": type, **fields})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    async def claim(self, wanted: int = 1, *, worker: str = "w1") -> list[Lease]:
        """As a worker does."""
        self._claims += 1
        shares = [wanted] + [0] * (len(self.broker.priorities) - 1)
        step = await self.broker.step([], worker=worker, number=self._claims, shares=shares, wanted=wanted)
        return step.leases

    async def next_claim(self) -> Lease:
        """The next task that a worker could start, as soon as there is one."""
        with trio.fail_after(10):
            while not (leases := await self.claim()):
                await trio.sleep(0.01)
        return leases[0]

    async def settle(self, lease: Lease, decision: Decision) -> None:
        """As a worker does."""
        shares = [0] * len(self.broker.priorities)
        settlement = Settlement(lease, decision)
        step = await self.broker.step([settlement], worker="w1", number=0, shares=shares, wanted=0)
        assert step.verdicts != "!"

    async def bury(self, type: str = "echo", **fields: Any) -> str:
        """-> the id of a new task that is dead at once."""
        id = await self.submit(type, **fields)
        [lease] = await self.claim()
        await self.settle(lease, Bury("exception"))
        return id

    async def stored(self) -> int:
        """How many tasks the store holds."""
        sampled = await self.broker.sample()
        waiting = sum(p.queued + p.scheduled + p.retrying + p.dead for p in sampled.priorities)
        return waiting + sampled.running + sampled.finished


Open = Callable[..., AbstractAsyncContextManager[Api]]


@pytest.fixture
def open_api(connection: Connection, queue: str) -> Open:
    """Run an API with settings of one's own, for as long as the block."""

    @asynccontextmanager
    async def open_it(
        connection: Connection = connection, traces: Traces | None = None, **settings: Any
    ) -> AsyncIterator[Api]:
        config = Config(**{"queue": queue, "api_addr": "127.0.0.1:0", "metrics_sample_ms": 50, **settings})
        events = Events()
        broker = Broker(
            connection, queue=queue, priorities=config.priority_names, terms=Terms.of(config), observe=events.append
        )
        stop = trio.Event()
        async with trio.open_nursery() as nursery:

            async def serve(task_status: trio.TaskStatus[list[str]]) -> None:
                await run_api(config, broker, observe=events.append, stop=stop, traces=traces, task_status=task_status)

            [url] = await nursery.start(serve)
            async with httpx.AsyncClient(base_url=url, timeout=10) as http:
                yield Api(http, broker, config, stop, events)
            stop.set()

    return open_it


@pytest.fixture
async def api(open_api: Open) -> AsyncIterator[Api]:
    """The API with default settings."""
    async with open_api() as api:
        yield api
