"""Rates out of totals: the quantile is Prometheus' own, and nothing is counted twice or below zero."""

import pytest

from taskward.api.summary import TypeWork, Window, Work, quantile

BOUNDS = (0.1, 0.5, 1.0)


@pytest.mark.parametrize(
    ("q", "buckets", "expected"),
    [
        (0.95, (), None),
        (0.95, (0, 0, 0, 0), None),
        (0.95, (100, 0, 0, 0), 0.095),
        (0.5, (0, 100, 0, 0), 0.3),
        (0.95, (90, 10, 0, 0), 0.3),
        (0.9, (90, 10, 0, 0), 0.1),
        (0.95, (0, 95, 5, 0), 0.5),
        (0.95, (0, 0, 100, 0), 0.975),
        (0.95, (50, 0, 0, 50), 1.0),
        (0.95, (0, 0, 0, 1), 1.0),
        (0.95, (0, 50, 0, 50), 1.0),
    ],
)
def test_the_quantile_is_that_of_histogram_quantile(q: float, buckets: tuple[int, ...], expected: float | None) -> None:
    assert quantile(q, BOUNDS, buckets) == (None if expected is None else pytest.approx(expected))


def done(succeeded: int, failed: int = 0, cancelled: int = 0) -> TypeWork:
    return TypeWork((succeeded + failed + cancelled, 0, 0, 0), 1.0, succeeded, failed, cancelled)


def totals(**workers: TypeWork) -> dict[str, Work]:
    return {id: Work(BOUNDS, {"echo": work}) for id, work in workers.items()}


def test_the_first_reading_says_nothing_yet() -> None:
    window = Window()
    window.add(0, totals(a=done(1000)))
    overall, types = window.rates()
    assert (overall.throughput_per_second, overall.p95_run_seconds, overall.failure_ratio, types) == (
        None,
        None,
        None,
        {},
    )


def test_rates_are_over_what_came_since() -> None:
    window = Window()
    window.add(0, totals(a=done(1000)))
    window.add(2, totals(a=done(1016, failed=4)))
    window.add(4, totals(a=done(1016, failed=4, cancelled=20)))
    overall, types = window.rates()
    assert window.seconds == 4
    assert (overall.throughput_per_second, overall.failure_ratio) == (10, 0.2)
    assert types["echo"] == overall


def test_a_worker_that_is_new_counts_from_zero() -> None:
    window = Window()
    window.add(0, totals())
    window.add(2, totals(a=done(10)))
    assert window.rates()[0].throughput_per_second == 5


def test_totals_that_fall_count_from_zero() -> None:
    window = Window()
    window.add(0, totals(a=done(1000)))
    window.add(2, totals(a=done(10)))
    assert window.rates()[0].throughput_per_second == 5


def test_a_worker_that_vanishes_leaves_what_it_did_and_is_not_counted_again() -> None:
    window = Window()
    window.add(0, totals(a=done(0)))
    window.add(2, totals(a=done(10)))
    window.add(4, totals())
    assert window.rates()[0].throughput_per_second == 2.5
    window.add(5, totals(a=done(10)))
    assert window.rates()[0].throughput_per_second == 2


def test_what_is_older_than_a_minute_is_forgotten() -> None:
    window = Window()
    for n in range(100):
        window.add(2 * n, totals(a=done(10 * n)))
    assert window.seconds == pytest.approx(60, abs=2)
    assert window.rates()[0].throughput_per_second == 5
    for n in range(100, 140):
        window.add(2 * n, totals(a=done(990)))
    overall, types = window.rates()
    assert (overall.throughput_per_second, overall.p95_run_seconds, types) == (0, None, {})


def test_buckets_of_another_release_are_left_out_of_the_quantile_only() -> None:
    window = Window()
    other = Work((7.0,), {"echo": TypeWork((0, 10), 1.0, 10)})
    window.add(0, totals(a=done(0)))
    window.add(2, totals(a=done(10)) | {"b": other})
    overall, _ = window.rates()
    assert overall.throughput_per_second == 10
    assert overall.p95_run_seconds == pytest.approx(0.095)
