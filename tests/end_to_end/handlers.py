"""Handlers that misbehave, and one that tells of itself."""

import os
import signal
import time
from typing import Any

from opentelemetry import metrics, trace

from taskward import App, Context

app = App()
parcels = metrics.get_meter("shop").create_counter("shop_parcels", description="Parcels that were packed.")


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


@app.task()
def pack(payload: Any) -> str:
    """Counts what it does, in a span of its own. -> the trace it is part of."""
    with trace.get_tracer("shop").start_as_current_span("fold the box") as span:
        parcels.add(1, {"size": payload["size"]})
    return f"{span.get_span_context().trace_id:032x}"
