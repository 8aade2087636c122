"""What workers did lately, out of the totals they publish. Pure: reports and times go in, numbers come out."""

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import accumulate

import msgspec

WINDOW_SECONDS = 60.0
QUANTILE = 0.95
# Processes that are gone stay known, so that one that comes back is not counted twice.
MOST_REMEMBERED = 10_000


class TypeWork(msgspec.Struct, frozen=True):
    """Ended attempts of one type: how long they ran (a count a bucket, the last above all bounds), and how it went."""

    buckets: tuple[int, ...] = ()
    sum: float = 0.0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0

    def __add__(self, other: "TypeWork") -> "TypeWork":
        return self._combine(other, 1)

    def __sub__(self, other: "TypeWork") -> "TypeWork":
        return self._combine(other, -1)

    def _combine(self, other: "TypeWork", sign: int) -> "TypeWork":
        width = max(len(self.buckets), len(other.buckets))
        mine, theirs = (list(work.buckets) + [0] * (width - len(work.buckets)) for work in (self, other))
        return TypeWork(
            tuple(a + sign * b for a, b in zip(mine, theirs, strict=True)),
            self.sum + sign * other.sum,
            self.succeeded + sign * other.succeeded,
            self.failed + sign * other.failed,
            self.cancelled + sign * other.cancelled,
        )

    @property
    def finished(self) -> int:
        """Attempts that ended, either way."""
        return self.succeeded + self.failed + self.cancelled


class Work(msgspec.Struct, frozen=True):
    """All one process has done since its start. `bounds` are the upper ones of the buckets, in seconds."""

    bounds: tuple[float, ...] = ()
    types: dict[str, TypeWork] = {}


class Rates(msgspec.Struct, frozen=True):
    """Per second over the window; null without data."""

    throughput_per_second: float | None
    p95_run_seconds: float | None
    failure_ratio: float | None


class Window:
    """The last 60 seconds of work. Totals that fall, or are new, count from zero; who vanishes leaves what it did."""

    def __init__(self) -> None:
        self.bounds: tuple[float, ...] = ()
        self._last: dict[str, Work] = {}
        self._steps: deque[tuple[float, float, dict[str, TypeWork]]] = deque()
        self._at: float | None = None

    def add(self, at: float, totals: Mapping[str, Work]) -> None:
        """One reading of everybody's totals, by process id, at a moment in seconds."""
        if self._at is not None:
            self._steps.append((self._at, at, self._done_since_last(totals)))
        while self._steps and self._steps[0][0] < at - WINDOW_SECONDS:
            self._steps.popleft()
        self._at = at
        if len(self._last) > MOST_REMEMBERED:
            self._last.clear()
        self._last |= totals

    @property
    def seconds(self) -> float:
        """How much of it there is yet."""
        return self._steps[-1][1] - self._steps[0][0] if self._steps else 0.0

    def rates(self) -> tuple[Rates, dict[str, Rates]]:
        """Overall, and by type."""
        by_type: dict[str, TypeWork] = {}
        for _, _, step in self._steps:
            _merge(by_type, step)
        everything = TypeWork()
        for work in by_type.values():
            everything += work
        return self._rates(everything), {type: self._rates(by_type[type]) for type in sorted(by_type)}

    def _rates(self, work: TypeWork) -> Rates:
        ran = work.succeeded + work.failed
        return Rates(
            work.finished / self.seconds if self.seconds else None,
            quantile(QUANTILE, self.bounds, work.buckets),
            work.failed / ran if ran else None,
        )

    def _done_since_last(self, totals: Mapping[str, Work]) -> dict[str, TypeWork]:
        done: dict[str, TypeWork] = {}
        for id, work in totals.items():
            self.bounds = self.bounds or work.bounds
            _merge(done, _progress(self._last.get(id, Work()), work, bounds=self.bounds))
        return done


def _progress(before: Work, after: Work, *, bounds: tuple[float, ...]) -> dict[str, TypeWork]:
    done = {}
    for type, work in after.types.items():
        earlier = before.types.get(type, TypeWork())
        step = work - earlier if work.finished >= earlier.finished else work
        # Buckets with other bounds, of another release, cannot be added up; the rest can.
        done[type] = step if after.bounds == bounds else msgspec.structs.replace(step, buckets=())
    return {type: step for type, step in done.items() if step.finished}


def _merge(into: dict[str, TypeWork], step: Mapping[str, TypeWork]) -> None:
    for type, work in step.items():
        into[type] = into.get(type, TypeWork()) + work


def quantile(q: float, bounds: Sequence[float], buckets: Sequence[int]) -> float | None:
    """As Prometheus' histogram_quantile: linear within a bucket, the highest bound for what is above. None: no data.

    `buckets` has a count a bound, not cumulative, and one more for what is above the last.
    """
    cumulative = list(accumulate(buckets))
    if not bounds or not cumulative or cumulative[-1] <= 0:
        return None
    rank = q * cumulative[-1]
    n = bisect_left(cumulative, rank)
    if n >= len(bounds):
        return bounds[-1]
    start = bounds[n - 1] if n else 0.0
    below = cumulative[n - 1] if n else 0
    return start + (bounds[n] - start) * (rank - below) / buckets[n]
