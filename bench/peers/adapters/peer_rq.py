"""RQ.

A pool of two processes, one a core, that do not fork (SimpleWorker), whatever the concurrency; results kept 500 s; what
runs at a kill is parked among the failed.
"""

import os
import time

import redis
import tally
from rq import Queue

# One process runs one task at a time: nothing else takes more.
PROCESSES = 2

queue = Queue("bench", connection=redis.Redis.from_url(os.environ["BENCH_REDIS"]))


def noop(argument: int | str) -> None:
    """Do nothing."""
    tally.did(argument if isinstance(argument, int) else 0)


def sleep10(number: int) -> None:
    """Wait ten milliseconds."""
    time.sleep(0.01)
    tally.did(number)


def nap(number: int) -> None:
    """Wait long enough to be killed in it."""
    time.sleep(0.2)
    tally.did(number)


def stamp(sent_ns: int) -> None:
    """Tell how long the start took."""
    tally.did(tally.since(sent_ns))


TASKS = {"noop": noop, "sleep10": sleep10, "nap": nap, "stamp": stamp}


def one(task: str, argument: int | str) -> None:
    queue.enqueue(TASKS[task], argument)


def many(task: str, arguments: list[int] | list[str]) -> None:
    queue.enqueue_many([Queue.prepare_data(TASKS[task], (argument,)) for argument in arguments])


def worker(_concurrency: int) -> list[str]:
    options = ["-n", str(PROCESSES), "-w", "rq.SimpleWorker", "-u", os.environ["BENCH_REDIS"], "-q"]
    return ["rq", "worker-pool", *options, "bench"]
