"""Handlers in processes of their own: killed when they must stop, and heard when they speak."""

import os
import time
from typing import Any

from taskward import Context, Discard, Retry
from taskward.task import State
from tests.worker.workshop import Workshop


def pid(payload: Any) -> int:
    return os.getpid()


def endless(payload: Any) -> None:
    time.sleep(60)


def speak(payload: str, ctx: Context) -> str:
    if payload == "retry" and ctx.attempt == 1:
        raise Retry(after=0.01)
    if payload == "discard":
        raise Discard("useless")
    return f"{ctx.id} {ctx.attempt}"


async def test_a_process_handler_runs_beside_the_worker_and_is_killed_at_its_timeout(workshop: Workshop) -> None:
    for function in (pid, endless, speak):
        workshop.app.task(process=True)(function)
    async with workshop.working():
        other = await workshop.until(await workshop.submit("pid"))
        late = await workshop.until(await workshop.submit("endless", timeout_ms=300, max_attempts=1))
        again = await workshop.until(await workshop.submit("speak", "retry", id="said"))
        never = await workshop.until(await workshop.submit("speak", "discard"))
    assert other.result != os.getpid()
    assert (late.state, late.attempts[0].cancel_cause) == (State.DEAD, "timeout")
    assert again.result == "said 2"
    assert never.last_error is not None
    assert never.last_error.message == "useless"
