"""Histograms as plain lists: counting is one bisect and two additions. Scrapes and pushes read them; nothing locks."""

from bisect import bisect_left
from collections.abc import Iterable
from time import time_ns
from typing import NamedTuple

from taskward.telemetry.instruments import Instrument

Labels = tuple[str, ...]


class Span(NamedTuple):
    """The two ids that make an exemplar of a value."""

    trace_id: int
    span_id: int


# A value, when it was counted (Unix ns), and the span it was measured in.
Exemplar = tuple[float, int, Span]


class Cell:
    """One series: counts per bucket (the last is above every bound), their sum, and each bucket's latest exemplar."""

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.exemplars: dict[int, Exemplar] = {}

    def record(self, value: float, span: Span | None = None) -> None:
        """Count `value`; a span makes it the exemplar of its bucket."""
        bucket = bisect_left(self.bounds, value)
        self.counts[bucket] += 1
        self.total += value
        if span is not None:
            self.exemplars[bucket] = (value, time_ns(), span)

    def record_many(self, value: float, times: int) -> None:
        """Count `value` so many times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


class Histogram(dict[Labels, Cell]):
    """The series of one histogram of the table, by label values; a series is made when it is first asked for."""

    def __init__(self, instrument: Instrument, known: Iterable[Labels] = ()) -> None:
        super().__init__()
        self.instrument = instrument
        for labels in known:
            self[labels] = Cell(instrument.buckets)

    def __missing__(self, labels: Labels) -> Cell:
        cell = self[labels] = Cell(self.instrument.buckets)
        return cell
