"""Celery.

Thread pool, prefetch 50 as advised for short tasks, no result backend; acknowledges before it runs, what was
prefetched returns after an hour.
"""

import os
import time

import tally
from celery import Celery

app = Celery("peer_celery", broker=os.environ["BENCH_REDIS"])
app.conf.worker_prefetch_multiplier = 50


@app.task
def noop(argument: int | str) -> None:
    """Do nothing."""
    tally.did(argument if isinstance(argument, int) else 0)


@app.task
def sleep10(number: int) -> None:
    """Wait ten milliseconds."""
    time.sleep(0.01)
    tally.did(number)


@app.task
def nap(number: int) -> None:
    """Wait long enough to be killed in it."""
    time.sleep(0.2)
    tally.did(number)


@app.task
def stamp(sent_ns: int) -> None:
    """Tell how long the start took."""
    tally.did(tally.since(sent_ns))


TASKS = {"noop": noop, "sleep10": sleep10, "nap": nap, "stamp": stamp}


def one(task: str, argument: int | str) -> None:
    TASKS[task].delay(argument)


def worker(concurrency: int) -> list[str]:
    options = ["--pool", "threads", "--concurrency", str(concurrency), "--loglevel", "ERROR"]
    return ["celery", "-A", "peer_celery", "worker", *options]
