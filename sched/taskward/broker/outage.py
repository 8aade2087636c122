"""Outage: says once that Redis is gone and once that it is back, and how long to pause between tries."""

import random

import trio

from taskward.errors import BrokerUnavailable
from taskward.events import Observer, OutageBegan, OutageEnded

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0


class Outage:
    """One per loop that talks to Redis. `part` names the loop in the log."""

    def __init__(self, part: str, observe: Observer) -> None:
        self._part = part
        self._observe = observe
        self._since: float | None = None
        self._pause = FIRST_PAUSE

    @property
    def lasts(self) -> bool:
        """Redis has not answered since the last failure."""
        return self._since is not None

    async def sit_out(self, error: BrokerUnavailable) -> None:
        """Report the first failure, then sleep before the next try: longer each time, at most a second or so."""
        if self._since is None:
            self._since = trio.current_time()
            self._observe(OutageBegan(self._part, str(error)))
        await trio.sleep(self._pause * (0.5 + random.random() / 2))
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def over(self) -> None:
        """A call has worked."""
        if self._since is not None:
            self._observe(OutageEnded(self._part, trio.current_time() - self._since))
            self._since = None
            self._pause = FIRST_PAUSE
