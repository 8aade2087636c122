"""The HTTP side of a peer: FastAPI with a validated body. BENCH_PEER is whose."""

import importlib
import inspect
import os
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

adapter: Any = importlib.import_module(f"peer_{os.environ['BENCH_PEER']}")


class Task(BaseModel):
    """What is posted."""

    type: str
    payload: str


def _lifespan(_app: FastAPI) -> AbstractAsyncContextManager[None]:
    session: AbstractAsyncContextManager[None] = adapter.session()
    return session


app = FastAPI(lifespan=_lifespan if hasattr(adapter, "session") else None)

if inspect.iscoroutinefunction(adapter.one):

    @app.post("/tasks", status_code=202)
    async def submit(task: Task) -> dict[str, str]:
        """A client that is awaited."""
        await adapter.one(task.type, task.payload)
        return {"type": task.type}

else:

    @app.post("/tasks", status_code=202)
    def submit_in_thread(task: Task) -> dict[str, str]:
        """A client that blocks: FastAPI runs it in its threads."""
        adapter.one(task.type, task.payload)
        return {"type": task.type}
