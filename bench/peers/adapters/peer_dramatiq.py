"""Dramatiq.

One process, `--threads` for the concurrency; no result backend; the tasks of a worker without a heartbeat for 60 s are
looked for in one fetch of a thousand, drawn by chance.
"""

import os
import time

import dramatiq
import tally
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_REDIS"]))


@dramatiq.actor
def noop(argument: int | str) -> None:
    """Do nothing."""
    tally.did(argument if isinstance(argument, int) else 0)


@dramatiq.actor
def sleep10(number: int) -> None:
    """Wait ten milliseconds."""
    time.sleep(0.01)
    tally.did(number)


@dramatiq.actor
def nap(number: int) -> None:
    """Wait long enough to be killed in it."""
    time.sleep(0.2)
    tally.did(number)


@dramatiq.actor
def stamp(sent_ns: int) -> None:
    """Tell how long the start took."""
    tally.did(tally.since(sent_ns))


TASKS = {"noop": noop, "sleep10": sleep10, "nap": nap, "stamp": stamp}


def one(task: str, argument: int | str) -> None:
    TASKS[task].send(argument)


def worker(concurrency: int) -> list[str]:
    return ["dramatiq", "peer_dramatiq", "--processes", "1", "--threads", str(concurrency), "--skip-logging"]
