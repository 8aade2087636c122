"""Pace: what is claimed ahead follows what ends in a round trip, and never more than that with its margin."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskward.worker.pace import AHEAD_SHARE, BRIEF_SECONDS, HALF_SECONDS, Pace


def paced(ended: int, *, sent: float, now: float, seconds: float = 0.0) -> Pace:
    """With so many attempts ended between a first answer at 10.0 and another at `now`."""
    pace = Pace(most=100)
    pace.round_trip(9.99, 10.0)
    for _ in range(ended):
        pace.end(seconds)
    pace.round_trip(sent, now)
    return pace


@pytest.mark.parametrize(
    ("ended", "sent", "now", "ahead"),
    [
        (0, 10.0, 10.001, 0),
        (20, 10.0, 10.001, 30),  # asked again at once: all of them ended in the round trip
        (20, 10.001, 10.002, 15),  # half of the time nobody was asked
        (200, 10.0, 10.001, 100),
        (1, 10.999, 11.0, 0),  # one a second: nothing ends in a millisecond
    ],
)
def test_what_ends_in_a_round_trip_is_claimed_ahead(ended: int, sent: float, now: float, ahead: int) -> None:
    assert paced(ended, sent=sent, now=now).ahead == ahead


def test_attempts_that_take_long_foretell_nothing() -> None:
    assert paced(50, sent=10.0, now=10.001, seconds=BRIEF_SECONDS).ahead == 0


def test_a_burst_is_forgotten_by_halves() -> None:
    pace = paced(41, sent=10.0, now=10.001)
    seen = [pace.ahead]
    for n in range(1, 7):
        now = 10.001 + n * HALF_SECONDS
        pace.round_trip(now - 0.001, now)
        seen.append(pace.ahead)
    assert seen == [61, 30, 15, 7, 3, 1, 0]


def test_forgotten_is_forgotten() -> None:
    pace = paced(40, sent=10.0, now=10.001)
    pace.end(0.0)
    pace.forget()
    pace.round_trip(10.001, 10.002)
    assert pace.ahead == 0


@given(st.lists(st.tuples(st.integers(0, 300), st.floats(0, 2), st.floats(0, 2)), max_size=30), st.integers(0, 200))
def test_never_more_than_has_ended_with_its_margin(trips: list[tuple[int, float, float]], most: int) -> None:
    pace, now, largest = Pace(most=most), 0.0, 0
    for ended, pause, trip in trips:
        for _ in range(ended):
            pace.end(0.0)
        largest = max(largest, ended)
        now += pause + trip
        pace.round_trip(now - trip, now)
        assert 0 <= pace.ahead <= min(most, AHEAD_SHARE * largest)
