"""What a PromQL expression names."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser

from taskward.telemetry.instruments import INSTRUMENTS, Instrument

from .files import RECORDS

OF_TARGETS = frozenset({"job", "instance"})
OF_ALERTS = frozenset({"alertname", "alertstate", "severity", "service", "priority", "kind", *OF_TARGETS})

# What Prometheus itself and prometheus_client's collectors add to the table, with the labels.
FOREIGN: dict[str, frozenset[str]] = {
    "up": OF_TARGETS,
    "scrape_duration_seconds": OF_TARGETS,
    "scrape_samples_scraped": OF_TARGETS,
    "process_start_time_seconds": OF_TARGETS,
    "process_cpu_seconds_total": OF_TARGETS,
    "process_resident_memory_bytes": OF_TARGETS,
    "process_open_fds": OF_TARGETS,
    "ALERTS": OF_ALERTS,
    "ALERTS_FOR_STATE": OF_ALERTS,
    **dict.fromkeys(RECORDS, frozenset[str]()),
}
SERIES: dict[str, Instrument] = {series: i for i in INSTRUMENTS for series in i.series}


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric in an expression: what is around it, innermost first, and its matchers."""

    name: str
    matchers: dict[str, str]
    around: tuple[Any, ...]

    @property
    def aggregation(self) -> str:
        """The innermost aggregation around it, or ""."""
        return next((str(a.op) for a in self.around if isinstance(a, promql_parser.AggregateExpr)), "")

    @property
    def functions(self) -> set[str]:
        """Every function around it."""
        return {a.func.name for a in self.around if isinstance(a, promql_parser.Call)}


def labels_of(series: str) -> frozenset[str]:
    """The labels a series can have. Raises KeyError for one nobody exports."""
    if series in FOREIGN:
        return FOREIGN[series]
    le = {"le"} if series.endswith("_bucket") else set()
    return frozenset(SERIES[series].labels) | OF_TARGETS | le


def only_grows(series: str) -> bool:
    """Whether a series is a counter, or one of the counters a histogram consists of."""
    return SERIES[series].kind != "gauge" if series in SERIES else series.endswith("_total")


def selectors(expr: str) -> list[Selector]:
    """Every metric of an expression. Raises ValueError where it does not parse."""
    return [_selector(node, around) for node, around in walk(expr) if isinstance(node, promql_parser.VectorSelector)]


def groupings(expr: str) -> list[tuple[set[str], set[str]]]:
    """(labels of a `by`, labels the metrics under it can have) of every aggregation."""
    found = []
    for node, _ in walk(expr):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            under = [n for n, _ in _walk(node, ()) if isinstance(n, promql_parser.VectorSelector)]
            found.append((set(node.modifier.labels), set().union(*(labels_of(n.name) for n in under))))
    return found


def windows(expr: str) -> list[tuple[str, float]]:
    """(function, seconds) of every range, the function being what it is handed to."""
    ranges = (promql_parser.MatrixSelector, promql_parser.SubqueryExpr)
    return [(around[0].func.name, n.range.total_seconds()) for n, around in walk(expr) if isinstance(n, ranges)]


def walk(expr: str) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """(node, the nodes around it, innermost first) of the whole tree."""
    return _walk(promql_parser.parse(expr), ())


def _walk(node: Any, around: tuple[Any, ...]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    yield node, around
    inner = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "param", "vector_selector")]
    for child in [*inner, *getattr(node, "args", [])]:
        if child is not None:
            yield from _walk(child, (node, *around))


def _selector(node: Any, around: tuple[Any, ...]) -> Selector:
    return Selector(node.name, {m.name: m.value for m in node.matchers.matchers}, around)
