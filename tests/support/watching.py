"""Waiting for what another process does, which nobody tells us of."""

from collections.abc import Callable

import trio

LOOK_SECONDS = 0.02


async def until(holds: Callable[[], bool], *, seconds: float) -> None:
    """Look again and again; trio.TooSlowError after so long."""
    with trio.fail_after(seconds):
        while not holds():
            await trio.sleep(LOOK_SECONDS)
