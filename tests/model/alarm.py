"""The alarm: wherever there is something to claim, somebody will come for it. No marker and no timer may be lost."""

import math

from tests.model.books import WAKE_LIMIT, Books, Stepped

# Times to wait are whole milliseconds.
ROUNDING_US = 1000


class Alarm:
    """What each worker was last told, as its pool would act on it: come again at once, at a time, or when woken."""

    def __init__(self) -> None:
        self._comes_at: dict[str, float] = {}
        self._resumed = 0

    def told(self, worker: str, step: Stepped, now_us: int) -> None:
        """After a claim."""
        self._comes_at[worker] = math.inf if step.wait is None else now_us + 1e6 * step.wait

    def woken(self, worker: str) -> None:
        """It took a marker, and will claim."""
        self._comes_at[worker] = -math.inf

    def stepped_back(self, us: int) -> None:
        """The server's clock went back; the workers' timers did not."""
        self._comes_at = {worker: at - us for worker, at in self._comes_at.items()}

    def resumed(self) -> None:
        """A resume adds a marker whatever their number."""
        self._resumed += 1

    def check(self, books: Books) -> None:
        """Nobody sleeps past the moment at which the next task may be claimed."""
        assert books.wake <= WAKE_LIMIT + self._resumed
        waiting = [t for t in books.tasks.values() if t.place in ("ready", "scheduled", "retry")]
        due = [
            -math.inf if task.place == "ready" else 1000 * task.score
            for task in waiting
            if task.priority not in books.paused
        ]
        if due and self._comes_at and not books.wake:
            earliest = max(min(due), books.now_us) + ROUNDING_US
            assert min(self._comes_at.values()) <= earliest, "everybody sleeps while there is something to claim"
