"""Handlers that write down when they ran: a line when they begin, another when they end, however that is."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import trio

from taskward import App, Context

LEDGER = "TASKWARD_LEDGER"

app = App()


@app.task()
async def work(payload: dict[str, Any], ctx: Context) -> str:
    """Can be stopped at any time."""
    with _written(ctx):
        ctx.progress(0, 1)
        await trio.sleep(payload["seconds"])
        return str(payload["key"])


@app.task()
def toil(payload: dict[str, Any], ctx: Context) -> str:
    """Hears of nothing: it runs to its end."""
    with _written(ctx):
        time.sleep(payload["seconds"])
        return str(payload["key"])


@app.task()
async def stumble(payload: dict[str, Any], ctx: Context) -> str:
    """Fails once."""
    with _written(ctx):
        await trio.sleep(payload["seconds"])
        if ctx.attempt == 1:
            raise RuntimeError("the first attempt fails")
        return str(payload["key"])


@contextmanager
def _written(ctx: Context) -> Iterator[None]:
    _write("began", ctx)
    how = "stopped"
    try:
        yield
        how = "done"
    except RuntimeError:
        how = "failed"
        raise
    finally:
        _write(how, ctx)


def _write(what: str, ctx: Context) -> None:
    line = {
        "what": what,
        "id": ctx.id,
        "token": ctx.token,
        "pid": os.getpid(),
        "wall": time.time(),
        "monotonic": time.monotonic(),
    }
    os.write(_ledger(), json.dumps(line).encode() + b"\n")  # appended whole: one write, O_APPEND


@cache
def _ledger() -> int:
    return os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
