"""How busy the Trio loop is: a Trio instrument that times each turn."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import trio

WINDOW_SECONDS = 5.0


class LoopMonitor(trio.abc.Instrument):
    """Longest turn and share of time at work, over the running window and the one before it."""

    def __init__(self) -> None:
        self._woke = self._slept = self._began = self._before_began = time.perf_counter()
        self._longest = self._before_longest = 0.0
        self._worked = self._before_worked = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Time the turns of the loop this is entered in."""
        self._woke = time.perf_counter()
        trio.lowlevel.add_instrument(self)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(self)

    @property
    def lag(self) -> float:
        """Seconds: how long the loop went without looking at its sockets and timers, at worst."""
        return max(self._longest, self._before_longest, self._turn(time.perf_counter()))

    @property
    def busy_ratio(self) -> float:
        """0 to 1."""
        now = time.perf_counter()
        worked = self._worked + self._before_worked + self._turn(now)
        return min(1.0, worked / max(now - self._before_began, 1e-9))

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - Trio's signature
        """Trio calls this when a turn begins."""
        self._woke = time.perf_counter()

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - Trio's signature
        """Trio calls this when a turn ends."""
        now = time.perf_counter()
        turn = now - self._woke
        self._slept = now
        self._worked += turn
        if turn > self._longest:
            self._longest = turn
        if now - self._began >= WINDOW_SECONDS:
            self._before_longest, self._before_worked, self._before_began = self._longest, self._worked, self._began
            self._longest, self._worked, self._began = 0.0, 0.0, now

    def _turn(self, now: float) -> float:
        return now - self._woke if self._woke > self._slept else 0.0
