"""Memory: of the server a queued task, of the worker before and after much work; and what a full store slows down."""

import time

from bench.measures.throughput import NOOP, drain
from bench.report import Reading
from bench.setup import Setup
from bench.store import preload
from taskward.task import Spec

PAYLOAD = "x" * 100
QUEUED = Spec(type="noop", payload=PAYLOAD)
LOW = Spec(type="noop", payload=PAYLOAD, priority="low")
LATER = Spec(type="noop", payload=PAYLOAD, delay_ms=7 * 86_400_000)
SETTLE_SECONDS = 1.0


def queued(setup: Setup) -> list[Reading]:
    """Server memory a queued task with a payload of 100 characters."""
    n = setup.tasks(100_000)
    with setup.server() as on:
        preload(on, 1, QUEUED)  # scripts and empty structures are not the task's
        base = on.memory
        preload(on, n, QUEUED)
        return [Reading("server memory a queued task, 100-character payload", "B", (on.memory - base) / n)]


def million(setup: Setup) -> list[Reading]:
    """No-ops at concurrency 100 beside a million queued and a million scheduled tasks that stay where they are."""
    n, crowd = setup.tasks(100_000), setup.tasks(1_000_000)
    rates = []
    with setup.worker_on_server() as (on, worker):
        rates.append(drain(on, [worker], n, NOOP).rate)
    with setup.worker_on_server() as (on, worker):
        on.hold("low")
        preload(on, crowd, LOW)
        preload(on, crowd, LATER)
        rates.append(drain(on, [worker], n, NOOP).rate)
        memory = on.memory / 1e6
    return [
        Reading("no-op, concurrency 100, in an empty store", "tasks/s", rates[0]),
        Reading(f"no-op beside {crowd:,} queued and {crowd:,} scheduled", "tasks/s", rates[1]),
        Reading("change by the crowd", "%", 100 * (rates[1] / rates[0] - 1)),
        Reading("server memory with all of them", "MB", memory),
    ]


def rss(setup: Setup) -> list[Reading]:
    """Resident memory of a worker, idle and after a million tasks."""
    n = setup.tasks(1_000_000)
    with setup.worker_on_server() as (on, worker):
        time.sleep(SETTLE_SECONDS)
        idle = worker.rss_mb
        drain(on, [worker], n, NOOP)
        time.sleep(SETTLE_SECONDS)
        return [
            Reading("worker RSS, idle", "MiB", idle),
            Reading(f"worker RSS after {n:,} tasks", "MiB", worker.rss_mb),
        ]
