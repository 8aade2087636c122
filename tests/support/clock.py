"""A clock that stands still until a test moves it."""

START_US = 1_700_000_000_000_000


class Clock:
    """What Broker(clock=...) takes: Unix microseconds."""

    def __init__(self) -> None:
        self.us = START_US

    def __call__(self) -> int:
        return self.us

    @property
    def ms(self) -> int:
        """Unix milliseconds, as the scripts round them."""
        return self.us // 1000

    def move(self, *, ms: int = 0, us: int = 0) -> None:
        """Forward, or back where negative."""
        self.us += 1000 * ms + us
