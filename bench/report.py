"""Readings of several runs -> a table with medians and ranges, and that table in its place in a document."""

import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.calibration import Calibration


class Reading(NamedTuple):
    """One figure of one run."""

    what: str
    unit: str
    value: float


class Run(NamedTuple):
    """What one run of a measure read, and what the machine was like just before."""

    readings: Sequence[Reading]
    calibration: Calibration


HEAD = ("measured", "unit", "median", "range", "round trips/s", "loop, M/s")


def table(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """A row a figure, in the order they were first read, under a head."""
    rows: list[tuple[str, ...]] = [HEAD]
    keys = dict.fromkeys((r.what, r.unit) for run in runs for r in run.readings)
    for what, unit in keys:
        pairs = [(r.value, run.calibration) for run in runs for r in run.readings if (r.what, r.unit) == (what, unit)]
        values = [value for value, _ in pairs]
        rows.append(
            (
                what,
                unit,
                number(statistics.median(values)),
                spread(values),
                spread([calibration.round_trips for _, calibration in pairs]),
                spread([calibration.loops for _, calibration in pairs]),
            )
        )
    return rows


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, columns as wide as what is in them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def write_section(path: Path, name: str, lines: Iterable[str]) -> None:
    """Between `<!-- NAME -->` and `<!-- end -->` in the file; at its end where there is no such place."""
    text = path.read_text() if path.exists() else ""
    section = "\n".join([f"<!-- {name} -->", *lines, "<!-- end -->"])
    place = re.compile(rf"<!-- {re.escape(name)} -->.*?<!-- end -->", re.DOTALL)
    replaced, found = place.subn(lambda _: section, text, count=1)
    path.write_text(replaced if found else f"{text}\n{section}\n".lstrip("\n"))


def number(value: float) -> str:
    """Three digits or so, and no more than a reader needs."""
    if value != value:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(values: Sequence[float]) -> str:
    """The lowest and the highest."""
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} - {high}"


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent do not exceed."""
    return sorted(values)[max(0, -int(-len(values) * percent // 100) - 1)]
