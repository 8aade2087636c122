"""Workshop: a pool and a keeper on a queue of the test's own, and everything they say."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio

from taskward.app import App
from taskward.broker import reading
from taskward.broker.broker import Broker, Terms
from taskward.broker.connection import Connection
from taskward.broker.messages import Refusal
from taskward.events import Event
from taskward.policy.priority import Shares
from taskward.task import RetryPolicy, Spec, State, Submission, Submitted, Task
from taskward.worker.ending import Defaults
from taskward.worker.executor import Executor
from taskward.worker.keeper import Keeper
from taskward.worker.pool import Pool

PRIORITIES = ("high", "default", "low")
WEIGHTS = (6, 3, 1)
TERMS = Terms(
    lease_ms=3000,
    result_ttl_ms=60_000,
    dlq_ttl_ms=600_000,
    idempotency_ttl_ms=60_000,
    max_reaps=3,
    max_queue_depth=0,
    reaper_interval_ms=1000,
    wait_replicas=0,
)
PATIENCE = 10.0
Wanted = TypeVar("Wanted", bound=Event)


class Recorder:
    """An observer that can be waited for."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = trio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()
        self._changed = trio.Event()

    def of(self, kind: type[Wanted]) -> list[Wanted]:
        """Those of one kind, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]

    async def wait_for(self, kind: type[Wanted], *, count: int = 1, where: Callable[[Any], bool] = bool) -> Wanted:
        """The `count`-th event of a kind; fails after a while."""
        with trio.fail_after(PATIENCE):
            while True:
                found = [event for event in self.of(kind) if where is bool or where(event)]
                if len(found) >= count:
                    return found[count - 1]
                await self._changed.wait()


class Workshop:
    """`app` takes the handlers; `said` has the events."""

    def __init__(self, connection: Connection, *, queue: str, redis_url: str) -> None:
        self.app = App()
        self.said = Recorder()
        self.connection = connection
        self.queue = queue
        self.redis_url = redis_url
        self.broker = self.broker_with()
        self._ids = 0

    def broker_with(self, connection: Connection | None = None, **terms: int) -> Broker:
        """Another Broker on the same queue."""
        return Broker(
            connection or self.connection,
            queue=self.queue,
            priorities=PRIORITIES,
            terms=TERMS._replace(**terms),
            observe=self.said,
        )

    def pool(self, *, worker: str = "w1", concurrency: int = 10, strict: bool = False, **terms: int) -> Pool:
        """Not running yet."""
        return Pool(
            app=self.app,
            broker=self.broker_with(**terms),
            worker_id=worker,
            concurrency=concurrency,
            shares=Shares(WEIGHTS, strict=strict),
            defaults=Defaults(timeout=20.0, max_attempts=3, retry=RetryPolicy(base_seconds=0.01, max_seconds=0.05)),
            executor=Executor(trio.CapacityLimiter(10), trio.CapacityLimiter(2), max_result_bytes=10_000),
            observe=self.said,
        )

    @asynccontextmanager
    async def working(
        self,
        *,
        cancel_grace: float = 0.5,
        drain_grace: float = 5.0,
        keeper_connection: Connection | None = None,
        **options: Any,
    ) -> AsyncIterator[Pool]:
        """Run a worker for the length of the block, then drain it. Its keeper may have a connection of its own."""
        pool = self.pool(**options)
        lease_ms = options.get("lease_ms", TERMS.lease_ms)
        keeper = Keeper(
            broker=self.broker_with(keeper_connection, lease_ms=lease_ms),
            held=pool.held,
            lease_seconds=lease_ms / 1000,
            cancel_grace=cancel_grace,
            observe=self.said,
        )
        async with trio.open_nursery() as keeping:
            keeping.start_soon(keeper.run)
            async with trio.open_nursery() as working:
                working.start_soon(pool.run)
                yield pool
                assert await pool.drain(grace=drain_grace, cancel_grace=5.0)
            keeping.cancel_scope.cancel()

    async def submit(self, type: str, payload: Any = None, *, id: str | None = None, **fields: Any) -> str:
        """One task. -> its id"""
        self._ids += 1
        spec = Spec(type=type, payload=payload, **fields)
        (answer,) = await self.broker.submit([Submission(id or f"t{self._ids:05}", spec)])
        assert isinstance(answer, Submitted), answer
        return answer.id

    async def task(self, id: str) -> Task:
        """As a reader sees it."""
        (task,) = await reading.get(self.broker, [id])
        assert task is not None
        return task

    async def until(self, id: str, *states: State) -> Task:
        """Wait for one of the states, or for a terminal one if none is named."""
        with trio.fail_after(PATIENCE):
            while True:
                task = await self.task(id)
                if task.state in states or (not states and task.terminal):
                    return task
                await trio.sleep(0.01)


__all__ = ["PRIORITIES", "Recorder", "Refusal", "Workshop"]
