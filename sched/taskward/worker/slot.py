"""A slot: a standing Trio task that runs one task after the other, inside a cancel scope of its own.

Opening a scope for every task would cost more than all else a short task needs, so a slot's scope is used again until
it has been cancelled or an exception has left it. A slot is a scope: it is free when the handler is gone.
"""

from collections.abc import Awaitable, Callable

import trio

from taskward.policy.retry import Outcome, Stopped
from taskward.worker.executor import failure
from taskward.worker.running import Running

Attempt = Callable[[Running], Awaitable[Outcome]]
Ended = Callable[[Running, Outcome], None]


async def work(tasks: trio.MemoryReceiveChannel[Running], *, attempt: Attempt, ended: Ended) -> None:
    """Run what comes until the channel is closed. `ended` hears the outcome once the handler's code has been left."""
    while await _work_in_one_scope(tasks, attempt, ended):
        pass


async def _work_in_one_scope(tasks: trio.MemoryReceiveChannel[Running], attempt: Attempt, ended: Ended) -> bool:
    """-> whether there is more to do, in another scope."""
    running = None
    outcome: Outcome
    try:
        with trio.CancelScope() as scope:
            async for running in tasks:
                running.enter(scope)
                outcome = await attempt(running)
                running.leave()
                ended(running, outcome)
                if scope.cancel_called:
                    return True
            return False
        assert running is not None
        outcome = Stopped(running.stopped_by())
    except (trio.Cancelled, GeneratorExit):
        raise  # from outside of the slot
    except BaseException as exc:  # the one place: a handler may raise anything
        if running is None or running.exited or _holds_cancelled(exc):
            raise
        outcome = failure(exc, running)
    running.leave()
    ended(running, outcome)
    return True


def _holds_cancelled(exc: BaseException) -> bool:
    return isinstance(exc, BaseExceptionGroup) and exc.subgroup(trio.Cancelled) is not None
