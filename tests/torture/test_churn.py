"""A week of churn in virtual time, at the default retentions: nothing grows that nobody needs."""

import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import trio

from taskward import App, Context
from taskward.broker.broker import Broker, Terms
from taskward.broker.connection import Connection
from taskward.config import Config
from taskward.events import Event, TaskSettled
from taskward.policy.priority import Shares
from taskward.task import RetryPolicy, Spec, Submission
from taskward.worker.executor import Executor
from taskward.worker.pool import Defaults, Pool
from tests.support.clock import Clock
from tests.support.store import Store

HOUR_MS = 3_600_000
CYCLE_MS = HOUR_MS // 6
CYCLES_A_DAY = 144
# A day of dead tasks instead of a month of them, so that a week shows whether they go.
CONFIG = Config(dlq_ttl_ms=24 * HOUR_MS)
# Of each kind, in each cycle.
KINDS = {"work": 8, "tell": 2, "fail": 2, "later": 2, "cancelled": 2, "expired": 1, "keyed": 3}
RUNNING_KINDS = ("work", "tell", "keyed")


class Mill:
    """Everything a queue does, over and over, under a clock that jumps."""

    def __init__(self, connection: Connection, queue: str) -> None:
        self.clock = Clock()
        self.settled = 0
        self._changed = trio.Event()
        self._worker = ""
        self._n = 0
        self.broker = Broker(
            connection,
            queue=queue,
            priorities=CONFIG.priority_names,
            terms=Terms.of(CONFIG),
            observe=self._observe,
            clock=self.clock,
        )
        self._app = App()
        self._app.task("fail", max_attempts=2, retry=RetryPolicy(base_seconds=60.0, jitter=0.0))(_fail)
        self._app.task("tell")(_tell)
        for kind in ("work", "later", "cancelled", "expired", "keyed"):
            self._app.task(kind)(_work)

    def _observe(self, event: Event) -> None:
        if isinstance(event, TaskSettled):
            self.settled += 1
            self._changed.set()

    @asynccontextmanager
    async def working(self, worker: str, *, leaves: bool) -> AsyncIterator[None]:
        """A worker, that says goodbye at the end or does not."""
        pool = Pool(
            app=self._app,
            broker=self.broker,
            worker_id=worker,
            concurrency=20,
            shares=Shares([weight for _, weight in CONFIG.priorities], strict=False),
            defaults=Defaults.of(CONFIG),
            executor=Executor(trio.CapacityLimiter(1), trio.CapacityLimiter(1), max_result_bytes=10_000),
            observe=self._observe,
        )
        self._worker = worker
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.run)
            yield
            assert await pool.drain(grace=5.0, cancel_grace=1.0)
        if leaves:
            await self.broker.report(worker, b"")

    async def cycle(self) -> None:
        """Ten minutes: tasks of all kinds, a claim that is never settled, and the janitor."""
        before, running = self.settled, 0
        await self.broker.report(self._worker, b"{}")
        for kind, count in KINDS.items():
            ids = await self._submit(kind, count)
            running += count if kind in RUNNING_KINDS else 0
            if kind == "cancelled":
                for id in ids:
                    await self.broker.cancel(id, cause="user")
        with trio.fail_after(20):
            while self.settled < before + running:
                self._changed = trio.Event()
                await self._changed.wait()
        self.clock.move(ms=CYCLE_MS)
        await self.broker.reap()
        while await self.broker.forget():
            pass

    async def _submit(self, kind: str, count: int) -> list[str]:
        ids = [f"{kind}-{self._n + n}" for n in range(count)]
        self._n += count
        await self.broker.submit([Submission(id, self._spec(kind, id)) for id in ids])
        return ids

    def _spec(self, kind: str, id: str) -> Spec:
        return Spec(
            type=kind,
            payload={"text": "x" * 100},
            delay_ms=HOUR_MS if kind in ("later", "cancelled") else None,
            expires_ms=self.clock.ms - 1 if kind == "expired" else None,
            idempotency_key=id if kind == "keyed" else None,
        )

    async def lose_a_lease(self, ghost: str) -> None:
        """A worker claims, and is never heard of again."""
        await self.broker.report(ghost, b"{}")
        await self._submit("work", 1)
        step = await self.broker.step([], worker=ghost, number=1, shares=[0, 1, 0], wanted=1)
        assert step.leases


async def _work(payload: Any) -> Any:
    return payload


async def _tell(payload: Any, ctx: Context) -> Any:
    ctx.progress(1, 2)
    return payload


async def _fail(payload: Any) -> None:
    raise RuntimeError("on purpose")


async def test_a_week_leaves_nothing_behind(connection: Connection, client: "redis.Redis", queue: str) -> None:
    mill = Mill(connection, queue)
    store = Store(client, queue)
    base = used_memory(client)
    kept, memory, resident = [], [], []
    for day in range(7):
        await mill.lose_a_lease(f"ghost-{day}")
        async with mill.working(f"worker-{day}", leaves=day % 2 == 0):
            for _ in range(CYCLES_A_DAY):
                await mill.cycle()
        kept.append({key: cardinality(client, store.key(key)) for key in store.read()})
        memory.append(used_memory(client) - base)
        resident.append(resident_bytes())
    print(memory, resident, kept[-1], mill.settled)
    # After the second day everything that is kept for a day has come and gone.
    for later in kept[2:]:
        assert later == pytest.approx(kept[1], abs=40)
    assert max(memory[2:]) < 1.1 * memory[1]
    assert max(resident[2:]) - resident[1] < 4_000_000
    mill.clock.move(ms=48 * HOUR_MS)
    async with mill.working("the last", leaves=True):
        await mill.cycle()
    mill.clock.move(ms=48 * HOUR_MS)
    async with mill.working("the very last", leaves=True):
        pass
    while await mill.broker.forget():
        pass
    assert set(store.read()) <= {"fence", "wake"}
    assert used_memory(client) - base < 100_000


def cardinality(client: "redis.Redis", key: str) -> int:
    """How many entries a key has."""
    match client.type(key):
        case "hash":
            return int(client.hlen(key))
        case "zset":
            return int(client.zcard(key))
        case "list":
            return int(client.llen(key))
        case _:
            return 1


def used_memory(client: "redis.Redis") -> int:
    """Bytes the server has in use."""
    return int(client.info("memory")["used_memory"])


def resident_bytes() -> int:
    """Of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
