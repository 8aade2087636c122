"""The worker's clock: Trio's own, except that short sleeps end when they should."""

import time

import trio

# epoll, on which Trio waits, takes whole milliseconds and rounds them up.
STEP_SECONDS = 0.001
# A wait that is longer may end late by that much.
SHORT_SECONDS = 0.05


class PunctualClock(trio.abc.Clock):
    """Seconds of the monotonic clock. In the last millisecond before a deadline Trio does not wait but looks again and
    again: ten milliseconds of sleep are ten, not eleven. While short sleeps end all the time, that takes what
    the loop has left of its core.
    """

    def start_clock(self) -> None:
        """Trio calls this when it starts."""

    def current_time(self) -> float:
        """Now."""
        return time.perf_counter()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """How long Trio may wait for something else to happen."""
        left = deadline - time.perf_counter()
        return left if left > SHORT_SECONDS else max(0.0, left - STEP_SECONDS)
