"""Admission: the lowest is refused first, the highest last, and nobody without a limit."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskward.policy.admission import LOWEST_SHARE, closed, depth_limits, shares

COUNTS = st.integers(1, 16)


@pytest.mark.parametrize(
    ("most", "count", "limits"),
    [
        (0, 3, [0, 0, 0]),
        (1, 3, [1, 1, 1]),
        (3, 2, [3, 2]),
        (100, 1, [100]),
        (100, 3, [100, 90, 80]),
        (1000, 5, [1000, 950, 900, 850, 800]),
    ],
)
def test_depth_limits(most: int, count: int, limits: list[int]) -> None:
    assert depth_limits(most, count) == limits


@given(COUNTS, st.integers(1, 10**9))
def test_limits_fall_from_the_whole_and_let_at_least_one_in(count: int, most: int) -> None:
    limits = depth_limits(most, count)
    assert limits[0] == most
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] >= 1


@given(COUNTS)
def test_shares_fall_evenly(count: int) -> None:
    found = shares(count)
    assert found[0] == 1.0
    assert count == 1 or found[-1] == pytest.approx(LOWEST_SHARE)
    steps = {round(high - low, 9) for high, low in itertools.pairwise(found)}
    assert len(steps) <= 1


@pytest.mark.parametrize(
    ("used", "refused"),
    [
        (0.0, ""),
        (0.71, ""),
        (0.721, "low"),
        (0.82, "low default"),
        (0.9, "low default high"),
        (2, "low default high"),
    ],
)
def test_memory_closes_the_lowest_first(used: float, refused: str) -> None:
    assert closed(("high", "default", "low"), used=used, most=0.9) == set(refused.split())


def test_no_guard_refuses_nobody() -> None:
    assert closed(("high", "low"), used=1.0, most=0.0) == frozenset()
