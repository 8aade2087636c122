"""Huey.

Thread workers, blocking pops; results on; a task is popped before it runs, so what runs at a kill is gone.
"""

import os
import time

import tally
from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["BENCH_REDIS"])


@huey.task()
def noop(argument: int | str) -> None:
    """Do nothing."""
    tally.did(argument if isinstance(argument, int) else 0)


@huey.task()
def sleep10(number: int) -> None:
    """Wait ten milliseconds."""
    time.sleep(0.01)
    tally.did(number)


@huey.task()
def nap(number: int) -> None:
    """Wait long enough to be killed in it."""
    time.sleep(0.2)
    tally.did(number)


@huey.task()
def stamp(sent_ns: int) -> None:
    """Tell how long the start took."""
    tally.did(tally.since(sent_ns))


TASKS = {"noop": noop, "sleep10": sleep10, "nap": nap, "stamp": stamp}


def one(task: str, argument: int | str) -> None:
    TASKS[task](argument)


def worker(concurrency: int) -> list[str]:
    return ["huey_consumer", "peer_huey.huey", "-w", str(concurrency), "-k", "thread", "-q", "-g", "TERM"]
