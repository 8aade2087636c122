"""Signals, as an event: the first asks for a clean stop, the second ends the patience."""

import signal
from collections.abc import Callable

import trio


async def stop_on_signal(
    stop: trio.Event, hurry: Callable[[], None], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Set `stop` at the first SIGTERM or SIGINT, call `hurry` at the second."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            if stop.is_set():
                hurry()
            stop.set()
