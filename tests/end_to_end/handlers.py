"""Handlers that misbehave."""

import os
import signal
import time
from typing import Any

from taskward import App, Context

app = App()


@app.task()
def deaf(payload: Any, ctx: Context) -> str:
    """Hears nothing in its first life."""
    if (time.time() - ctx.queued_at.timestamp()) < 1.0:
        time.sleep(20)
    return "second time"


@app.task()
async def blocking(payload: Any) -> str:
    """Keeps the event loop for so many seconds."""
    time.sleep(payload["seconds"])  # noqa: ASYNC251 - that is the point
    return "done"


@app.task()
async def poison(payload: Any) -> None:
    """Takes its worker down."""
    os.kill(os.getpid(), signal.SIGKILL)
