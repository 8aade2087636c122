"""Pace: how many slots a round trip to the store frees. Tasks for so many are claimed ahead, to be at hand by then."""

# For each attempt that ended in the busiest round trip lately: tasks that take equally long end in bursts.
AHEAD_SHARE = 1.5
# In so long without as busy a one, half of it is forgotten.
HALF_SECONDS = 0.05
# An attempt that takes longer does not tell when a slot will be free.
BRIEF_SECONDS = 0.1


class Pace:
    """Told of every attempt that ends and of every round trip. `most`: no more are claimed ahead, whatever the pace."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        # Attempts a round trip, and when that was seen.
        self._busiest = 0.0
        self._seen = 0.0
        self._ended = 0

    @property
    def ahead(self) -> int:
        """How many tasks to claim beyond the free slots."""
        return min(int(AHEAD_SHARE * self._busiest), self._most)

    def end(self, seconds: float) -> None:
        """An attempt has ended that took so long."""
        self._ended += seconds < BRIEF_SECONDS

    def round_trip(self, sent: float, now: float) -> None:
        """The store has answered. What has ended since its last answer is spread evenly over the time since then."""
        since = max(now - self._seen, 1e-6)
        self._busiest = max(self._ended * (now - sent) / since, self._busiest * 0.5 ** (since / HALF_SECONDS))
        self._seen, self._ended = now, 0

    def forget(self) -> None:
        """Slots do not come as they did."""
        self._busiest = 0.0
        self._ended = 0
