"""What metrics cost: nanoseconds a task in `observe`, and milliseconds a scrape. Run it on a quiet machine."""

import argparse
import time
from collections.abc import Callable
from unittest.mock import patch

import trio

from taskward.events import Event, Observer, TaskSettled, TaskStarted
from taskward.policy.retry import Complete, Failed, RetryIn, Succeeded
from taskward.task import ErrorInfo, Lease, Spec
from taskward.telemetry import histograms
from taskward.telemetry.exposition import Exposition
from taskward.telemetry.metrics import Metrics
from taskward.telemetry.tracing import Span

PRIORITIES = ("high", "default", "low")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="of 1000 tasks; the best one counts")
    rounds = parser.parse_args().rounds
    for name, span in (("no tracing", None), ("every span sampled", Span(1, 2))):
        metrics = _metrics(types=3, span=span)
        print(f"{name}: {_per_task(metrics.observe, span, rounds):.0f} ns a task (started + settled)")
    with patch.object(histograms, "can_bind", lambda: False):
        metrics = _metrics(types=3, span=None)
    print(f"histograms not bound: {_per_task(metrics.observe, None, rounds):.0f} ns a task (started + settled)")
    for types in (3, 20):
        metrics = _metrics(types=types, span=None)
        _fill(metrics, types)
        text, best = trio.run(_scrape, Exposition(metrics.registry))
        samples = sum(not line.startswith(b"#") for line in text.splitlines())
        print(f"{types} types: {samples} samples, {len(text)} bytes, {best:.1f} ms a scrape")


def _metrics(*, types: int, span: Span | None) -> Metrics:
    return Metrics(
        "worker",
        priorities=PRIORITIES,
        types=[f"type{n}" for n in range(types)],
        instance_id="bench",
        version="0",
        current_span=None if span is None else lambda: span,
    )


def _events(type_: str, priority: str, span: Span | None = None) -> list[Event]:
    spec = Spec(type=type_, priority=priority)
    lease = Lease(id="0", spec=spec, token=1, attempt=1, queued_us=0, started_us=0, held_until=0.0)
    error = ErrorInfo("ValueError", "no")
    return [
        TaskStarted(lease, type_, 0.004),
        TaskSettled(lease, type_, Succeeded(b""), Complete(b""), 0.02, span),
        TaskStarted(lease, type_, 0.4),
        TaskSettled(lease, type_, Failed(error), RetryIn(1.0, "exception", error), 0.3, span),
    ]


def _per_task(observe: Observer, span: Span | None, rounds: int) -> float:
    """Without the loop around it. Nine tasks in ten succeed."""
    events = _events("type1", "default", span)
    good, bad = events[:2], events[2:]
    events = [*good * 9, *bad] * 100
    return (_best(observe, events, rounds) - _best(lambda _: None, events, rounds)) / 1000


def _best(observe: Callable[[Event], None], events: list[Event], rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter_ns()
        for event in events:
            observe(event)
        best = min(best, time.perf_counter_ns() - began)
    return best


def _fill(metrics: Metrics, types: int) -> None:
    for n in range(types):
        for priority in PRIORITIES:
            for event in _events(f"type{n}", priority):
                metrics.observe(event)


async def _scrape(exposition: Exposition) -> tuple[bytes, float]:
    """The text, and the ms of the best of twenty scrapes."""
    text, best = b"", float("inf")
    for _ in range(20):
        began = time.perf_counter()
        text, _headers = await exposition.render(accept="", accept_encoding="")
        best = min(best, time.perf_counter() - began)
    return text, best * 1000


if __name__ == "__main__":
    main()
