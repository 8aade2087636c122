"""Submissions a second: by the clients, and over HTTP against one API process."""

import json
import subprocess
import sys
import time
from collections.abc import Callable

import trio

from bench.processes import ROOT, Process, environment
from bench.report import Reading
from bench.server import Server
from bench.setup import Setup
from taskward.client import BlockingClient, Client, open_blocking_client
from taskward.client.fields import Item
from taskward.client.local import AsyncClient, open_client

PAYLOAD = "x" * 100
BATCH = 500
BULK = 5000
CALLERS = 32


def in_process(setup: Setup) -> list[Reading]:
    """Submissions/s of one client: async on Redis, one by one, from 32 Trio tasks, in batches; blocking, both ways."""
    with setup.server() as on:
        readings = trio.run(async_client, on, setup)
        with open_blocking_client(on.url) as client:
            readings += _blocking(client, "BlockingClient (blocking, Redis)", setup)
        with setup.api(on) as api, Client(f"http://127.0.0.1:{api.port}") as client:
            return readings + _blocking(client, "Client (blocking, HTTP)", setup)


def over_http(setup: Setup) -> list[Reading]:
    """POST /tasks on 32 connections, batches of 1,000 as JSON arrays, and what the API process needs a request."""
    readings = []
    for shape, connections, name in (
        ("single", CALLERS, f"HTTP POST /tasks, {CALLERS} connections"),
        ("array", 4, "HTTP batch, arrays of 1,000, 4 connections"),
    ):
        with setup.server() as on, setup.api(on) as api:
            answer, cpu = _loaded(api, shape, connections=connections, seconds=setup.seconds(5))
        readings += [
            Reading(name, "tasks/s", answer["tasks"] / answer["seconds"]),
            Reading(f"{name}: p99", "ms", answer["p99_ms"]),
            Reading(f"{name}: API CPU", "us a request", cpu / answer["requests"] * 1e6),
        ]
    return readings


def ndjson(setup: Setup) -> list[Reading]:
    """One NDJSON stream of a million and one of ten: the API's memory meanwhile, and the server's with all of them."""
    readings = []
    for n in map(setup.tasks, (1_000_000, 10_000_000)):
        with setup.server() as on, setup.api(on) as api:
            before, server_before = api.rss_mb, on.cpu_seconds
            answer, cpu = _loaded(api, "ndjson", connections=1, tasks=n)
            highest, memory, server_cpu = api.highest_rss_mb, on.memory / 1e9, on.cpu_seconds - server_before
        name = f"HTTP NDJSON, one stream of {n:,}"
        readings += [
            Reading(name, "tasks/s", answer["tasks"] / answer["seconds"]),
            Reading(f"{name}: API CPU", "us a task", cpu / n * 1e6),
            Reading(f"{name}: server CPU", "us a task", server_cpu / n * 1e6),
            Reading(f"{name}: API RSS before", "MiB", before),
            Reading(f"{name}: API RSS, the highest", "MiB", highest),
            Reading(f"{name}: server memory with all of them", "GB", memory),
        ]
    return readings


async def async_client(on: Server, setup: Setup) -> list[Reading]:
    """Submissions/s of the client that talks to Redis itself."""
    n, many = setup.tasks(10_000), setup.tasks(100_000)
    each = max(1, n // CALLERS)
    async with open_client(on.url) as client:
        began = time.perf_counter()
        for _ in range(n):
            await client.submit("noop", PAYLOAD)
        one = n / (time.perf_counter() - began)

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(CALLERS):
                nursery.start_soon(_submit, client, each)
        together = CALLERS * each / (time.perf_counter() - began)

        bulk = {}
        for size in (BATCH, BULK):
            items = [Item(type="noop", payload=PAYLOAD)] * size
            began = time.perf_counter()
            for _ in range(0, many, size):
                await client.submit_many(items)
            bulk[size] = -(-many // size) * size / (time.perf_counter() - began)
    return [
        Reading("AsyncClient, one by one", "tasks/s", one),
        Reading(f"AsyncClient, {CALLERS} Trio tasks", "tasks/s", together),
        *(Reading(f"AsyncClient, batches of {size:,}", "tasks/s", rate) for size, rate in bulk.items()),
    ]


async def _submit(client: AsyncClient, n: int) -> None:
    for _ in range(n):
        await client.submit("noop", PAYLOAD)


def _blocking(client: Client | BlockingClient, name: str, setup: Setup) -> list[Reading]:
    n, many = setup.tasks(3000), setup.tasks(30_000)
    items = [Item(type="noop", payload=PAYLOAD)] * BULK
    one = _rate(lambda: client.submit("noop", PAYLOAD), n)
    bulk = BULK * _rate(lambda: client.submit_many(items), -(-many // BULK))
    return [
        Reading(f"{name}, one by one", "tasks/s", one),
        Reading(f"{name}, batches of {BULK:,}", "tasks/s", bulk),
    ]


def _rate(call: Callable[[], object], n: int) -> float:
    began = time.perf_counter()
    for _ in range(n):
        call()
    return n / (time.perf_counter() - began)


def _loaded(
    api: Process, shape: str, *, connections: int, seconds: float = 0.0, tasks: int = 0
) -> tuple[dict[str, float], float]:
    """What the load generator saw, and the API's CPU seconds meanwhile."""
    before = api.cpu_seconds
    options = {"--connections": connections, "--seconds": seconds, "--tasks": tasks}
    words = [word for name, value in options.items() for word in (name, str(value))]
    command = [sys.executable, "-m", "bench.http_load", str(api.port), shape, *words]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout), api.cpu_seconds - before
