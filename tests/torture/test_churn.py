"""A week of churn in virtual time, at the default retentions: nothing grows that nobody needs."""

import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import redis
import trio

from taskward import App, Context
from taskward.broker.broker import REAP_HOLD_MS, Broker, Terms
from taskward.broker.connection import Connection
from taskward.config import Config
from taskward.events import Event, TaskSettled
from taskward.policy.priority import Shares
from taskward.task import RetryPolicy, Spec, Submission
from taskward.worker.ending import Defaults
from taskward.worker.executor import Executor
from taskward.worker.pool import Pool
from tests.support.clock import Clock
from tests.support.store import Store

HOUR_MS = 3_600_000
CYCLE_MS = HOUR_MS // 3
CYCLES_A_DAY = 72
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
    async def _working(self, worker: str, *, leaves: bool) -> AsyncIterator[None]:
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

    async def _cycle(self) -> None:
        """Twenty minutes: tasks of all kinds, a claim that is never settled, and the janitor."""
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
        await self.broker.reap()  # after such a gap it holds back
        self.clock.move(ms=REAP_HOLD_MS)
        await self.broker.reap()
        while await self.broker.forget():
            pass

    async def day(self, number: int) -> None:
        """With a worker of its own; every other one leaves without a word."""
        await self._lose_a_lease(f"ghost-{number}")
        async with self._working(f"worker-{number}", leaves=number % 2 == 0):
            for _ in range(CYCLES_A_DAY):
                await self._cycle()

    async def empty(self) -> None:
        """Do what is left to do, and let all retentions pass."""
        self.clock.move(ms=48 * HOUR_MS)
        async with self._working("the last", leaves=True):
            await self._until_idle()
        self.clock.move(ms=48 * HOUR_MS)
        while await self.broker.forget():
            pass

    async def _until_idle(self) -> None:
        """Until nothing waits and nothing runs."""
        with trio.fail_after(20):
            while True:
                sampled = await self.broker.sample()
                if not sampled.running and not any(p.queued + p.scheduled + p.retrying for p in sampled.priorities):
                    return
                self.clock.move(ms=CYCLE_MS)
                await self.broker.resume("high")  # wakes a worker: our clock is not the one it sleeps by
                await trio.sleep(0.02)

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

    async def _lose_a_lease(self, ghost: str) -> None:
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
    await mill.day(0)
    await mill.empty()
    base = used_memory(client)
    kept, memory, resident = [], [], []
    for day in range(1, 8):
        await mill.day(day)
        kept.append({key: cardinality(client, store.key(key)) for key in store.read()})
        memory.append(used_memory(client) - base)
        resident.append(resident_bytes())
    # After the second day everything that is kept for a day has come and gone.
    for later in kept[2:]:
        assert all(count <= kept[1].get(key, 0) + 20 for key, count in later.items()), (kept[1], later)
    assert max(memory[2:]) < 1.1 * memory[1]
    assert max(resident[2:]) - resident[1] < 4_000_000
    await mill.empty()
    assert set(store.read()) <= {"fence", "reaping", "wake"}
    assert used_memory(client) - base < 200_000


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
