"""A slot: a standing Trio task that runs one task after the other, inside a cancel scope of its own.

Opening a scope for every task would cost more than all else a short task needs, so a slot's scope is used again until
it has been cancelled or an exception has left it. A slot is a scope: it is free when the handler is gone.
"""

import contextvars
import math
from collections.abc import Awaitable, Callable

import trio

from taskward.policy.retry import Outcome, Stopped
from taskward.worker.executor import failure
from taskward.worker.running import Running

Attempt = Callable[[Running], Awaitable[Outcome]]
Ended = Callable[[Running, Outcome], None]


async def work(tasks: trio.MemoryReceiveChannel[Running], *, attempt: Attempt, ended: Ended) -> None:
    """Run what comes until the channel is closed. `ended` hears the outcome once the handler's code has been left.

    Start it as a Trio task of its own: after each handler it gets a new context.
    """
    untouched = contextvars.copy_context()
    while await _work_in_one_scope(tasks, attempt, ended, untouched):
        pass


async def _work_in_one_scope(
    tasks: trio.MemoryReceiveChannel[Running], attempt: Attempt, ended: Ended, untouched: contextvars.Context
) -> bool:
    """-> whether there is more to do, in another scope."""
    this = trio.lowlevel.current_task()
    running = None
    outcome: Outcome
    try:
        with trio.CancelScope() as scope:
            async for running in tasks:
                running.enter(scope)
                outcome = await attempt(running)
                running.leave()
                ended(running, outcome)
                this.context = untouched.copy()  # what a handler sets in its context is not the next one's
                if scope.cancel_called:
                    return True
            return False
        assert running is not None
        outcome = Stopped(running.stopped_by())
    except BaseException as exc:  # noqa: ASYNC103 - the one place: it may raise anything, another scope's Cancelled too
        if running is None or running.exited or (_slot_is_stopped() and _is_stop(exc)):
            raise
        outcome = failure(exc, running)
    running.leave()
    ended(running, outcome)
    this.context = untouched.copy()
    return True


def _slot_is_stopped() -> bool:
    """From outside: by a scope around it, or thrown away together with Trio."""
    return not trio.lowlevel.in_trio_run() or trio.current_effective_deadline() == -math.inf


def _is_stop(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return exc.subgroup((trio.Cancelled, GeneratorExit)) is not None
    return isinstance(exc, trio.Cancelled | GeneratorExit)
