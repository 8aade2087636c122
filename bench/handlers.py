"""What the measured workers run."""

import time
from typing import Any

import trio

from taskward import App

BURN_SECONDS = 0.1

app = App()


@app.task()
async def noop(_payload: Any) -> None:
    """Do nothing."""


@app.task()
async def sleep10(_payload: Any) -> None:
    """Wait ten milliseconds."""
    await trio.sleep(0.01)


@app.task()
async def stamp(_payload: Any) -> int:
    """Say when this started, in Unix nanoseconds."""
    return time.time_ns()


@app.task()
def burn(_payload: Any) -> None:
    """Keep a processor busy from a thread."""
    until = time.thread_time() + BURN_SECONDS
    while time.thread_time() < until:
        pass
