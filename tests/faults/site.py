"""The site of a fault: an API and a worker in this process, and a proxy between them and a server of their own."""

import inspect
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import trio

from taskward import Context
from taskward.api.server import run_api
from taskward.broker import script
from taskward.broker.broker import Broker, Terms
from taskward.broker.connection import Connection, open_connection
from taskward.config import Config
from taskward.events import OutageBegan, OutageEnded, TaskStarted
from taskward.maintenance.periodic import every, janitor, reaper, sampler
from taskward.task import State
from tests.faults.proxy import Held, Proxy, Trap
from tests.faults.server import Server
from tests.worker.workshop import PRIORITIES, Workshop

QUEUE = "site"
LEASE_MS = 10_000
CONCURRENCY = 10
# How soon after Redis' return the next task must have begun.
RESUMED_SECONDS = 2.0
# Half the time until the first renewal.
HEARD_SECONDS = LEASE_MS / 1000 / 3 / 2
PATIENCE = 20.0

Act = Callable[[], Any]


class Site:
    """`worker` knows what its parts said and ran; `http` is a client of the API."""

    def __init__(self, server: Server, proxy: Proxy, connection: Connection, worker: Workshop) -> None:
        self.server = server
        self.proxy = proxy
        self.connection = connection
        self.worker = worker
        self.said = worker.said
        self.http: httpx.AsyncClient
        self.let_go = trio.Event()
        self.runs: Counter[str] = Counter()
        self.stopped_ms: dict[str, int] = {}
        worker.app.task("note")(self._note)
        worker.app.task("hold")(self._hold)
        worker.app.task("tell")(self._tell)

    async def _note(self, payload: Any, ctx: Context) -> Any:
        self.runs[ctx.id] += 1
        return payload

    async def _hold(self, payload: Any, ctx: Context) -> str:
        self.runs[ctx.id] += 1
        try:
            await self.let_go.wait()
        finally:
            self.stopped_ms[ctx.id] = time.time_ns() // 1_000_000
        return "held out"

    async def _tell(self, payload: Any, ctx: Context) -> None:
        self.runs[ctx.id] += 1
        ctx.progress(1, 2, "half way")
        await self.let_go.wait()

    @asynccontextmanager
    async def running(self, *, lease_ms: int = LEASE_MS, **settings: Any) -> AsyncIterator[None]:
        """API, worker and the ticks beside it, for the length of the block."""
        broker = self.worker.broker_with(lease_ms=lease_ms)
        async with trio.open_nursery() as nursery:
            for name, tick in (
                ("reaper", reaper(broker, self.said)),
                ("janitor", janitor(broker)),
                ("sampler", sampler(broker, self.said)),
            ):
                nursery.start_soon(partial(every, 0.2, name, tick, observe=self.said))
            async with (
                self._serving(lease_ms=lease_ms, **settings),
                self.worker.working(lease_ms=lease_ms, concurrency=CONCURRENCY),
            ):
                yield
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def _serving(self, **settings: Any) -> AsyncIterator[None]:
        config = Config(  # without the memory guard: what Redis itself says is what counts here
            queue=QUEUE, api_addr="127.0.0.1:0", metrics_sample_ms=200, max_memory_percent=0, **settings
        )
        broker = Broker(
            self.connection,
            queue=QUEUE,
            priorities=PRIORITIES,
            terms=Terms.of(config),
            observe=lambda _event: None,
        )
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            [url] = await nursery.start(partial(run_api, config, broker, observe=lambda _event: None, stop=stop))
            async with httpx.AsyncClient(base_url=url, timeout=30) as self.http:
                yield
            stop.set()

    async def post(self, type: str, **fields: Any) -> httpx.Response:
        """One submission."""
        return await self.http.post("/tasks", json={"type": type, **fields})

    async def submit(self, type: str, **fields: Any) -> str:
        """-> the id of an accepted task, asked for until it is. A client repeats what was answered 503."""
        with trio.fail_after(PATIENCE):
            while True:
                answer = await self.post(type, **fields)
                if answer.status_code in (200, 202):
                    return str(answer.json()["id"])
                unavailable(answer)

    async def hold_one(self) -> str:
        """-> the id of a task that runs until `let_go`."""
        id = await self.submit("hold")
        await self.said.wait_for(TaskStarted, where=lambda event: event.lease.id == id)
        return id

    async def until_done(self, id: str) -> dict[str, Any]:
        """The task, from the API, once it is terminal."""
        with trio.fail_after(PATIENCE):
            while True:
                answer = await self.http.get(f"/tasks/{id}", params={"wait": 5})
                if answer.status_code == 200 and answer.json()["terminal"]:
                    return dict(answer.json())

    async def lose_reply(self, verb: str, *, keep: int = 0) -> Trap:
        """Of the next reply to a script only `keep` bytes come through."""
        return self.proxy.tear_reply(await self._marker(verb), keep=keep)

    async def hold_request(self, verb: str) -> Held:
        """The next request to run a script is late."""
        return self.proxy.hold_request(await self._marker(verb))

    async def _marker(self, verb: str) -> bytes:
        """What is in every request to run a script, once the server has it."""
        loaded = script.load(verb)
        await trio.to_thread.run_sync(self.server.admin.script_load, loaded.source)
        return loaded.sha.encode()

    async def goes_on(self) -> None:
        """What is submitted runs and is settled, and a cancel is heard, not found at a renewal."""
        fresh = await self.submit("note", payload="fresh")
        assert (await self.until_done(fresh))["result"] == "fresh"
        with trio.fail_after(PATIENCE):
            while self._outages(OutageBegan)["cancels"] > self._outages(OutageEnded)["cancels"]:
                await trio.sleep(0.01)
        kept, self.let_go = self.let_go, trio.Event()  # what others hold stays held
        held = await self.hold_one()
        self.let_go = kept
        began = trio.current_time()
        answer = await self.http.post(f"/tasks/{held}/cancel", params={"wait": 5})
        assert answer.json()["state"] == "cancelled"
        assert trio.current_time() - began < HEARD_SECONDS

    async def rides_out(self, breaks: Act, mends: Act, *, seconds: float = 0.3) -> None:
        """What must hold in any outage that is shorter than a lease, whatever its reason."""
        held = await self.hold_one()
        await _do(breaks)
        unavailable(await self.post("note", payload=1, idempotency_key="once"))
        self.let_go.set()  # it ends while nobody can be told
        await trio.sleep(seconds)
        await _do(mends)
        mended = trio.current_time()
        fresh = await self.submit("note", payload=1, idempotency_key="once")
        await self.said.wait_for(TaskStarted, where=lambda event: event.lease.id == fresh)
        assert trio.current_time() - mended < RESUMED_SECONDS
        assert (await self.until_done(held))["result"] == "held out"
        assert (await self.until_done(fresh))["result"] == 1
        assert self.runs == {held: 1, fresh: 1}
        assert "worker" in {event.part for event in self.said.of(OutageBegan)}
        await self.every_outage_was_said_once()

    async def every_outage_was_said_once(self) -> None:
        """One line at its beginning, one at its end, per part of the worker."""
        began = self._outages(OutageBegan)
        assert set(began.values()) == {1}, began
        await self.said.wait_for(OutageEnded, count=len(began))
        assert self._outages(OutageEnded) == began

    def _outages(self, kind: type[OutageBegan] | type[OutageEnded]) -> Counter[str]:
        """How often each part has said so."""
        return Counter(event.part for event in self.said.of(kind))


def outcomes(task: dict[str, Any]) -> list[str]:
    """How its attempts ended, oldest first."""
    return [attempt["outcome"] for attempt in task["attempts"]]


def unavailable(answer: httpx.Response) -> None:
    """It says so, as it should."""
    assert answer.status_code == 503, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/unavailable"
    assert int(answer.headers["Retry-After"]) >= 1


async def cpu_share(seconds: float) -> float:
    """How much of one core this process uses while nobody asks anything of it."""
    began = time.process_time()
    await trio.sleep(seconds)
    return (time.process_time() - began) / seconds


async def _do(act: Act) -> None:
    done = act()
    if inspect.isawaitable(done):
        await done


@asynccontextmanager
async def open_site(server: Server, *, wire: bool = True, url: str = "") -> AsyncIterator[Site]:
    """On a server that runs: through the proxy, or where `url` leads."""
    proxy = Proxy(server.port)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run)
        url = url or proxy.url
        async with open_connection(url, name="site", queue=QUEUE, wire=wire) as connection:
            yield Site(server, proxy, connection, Workshop(connection, queue=QUEUE, redis_url=url))
        nursery.cancel_scope.cancel()


__all__ = ["CONCURRENCY", "LEASE_MS", "Site", "State", "cpu_share", "open_site", "outcomes", "unavailable"]
