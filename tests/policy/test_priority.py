"""Shares: exact by weight in the long run, fair in the short, strict on request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskward.policy.priority import Shares

WEIGHTS = st.lists(st.integers(1, 20), min_size=1, max_size=6)


def _turns(shares: Shares, count: int) -> list[int]:
    """Which priority each single turn serves."""
    return [shares.take(1).index(1) for _ in range(count)]


def test_the_default_weights_turn_by_turn() -> None:
    assert _turns(Shares([6, 3, 1], strict=False), 10) == [0, 1, 0, 0, 1, 0, 2, 0, 1, 0]


@given(WEIGHTS, st.integers(0, 50))
def test_every_window_of_all_turns_is_exact(weights: list[int], start: int) -> None:
    """W turns serve each priority exactly by its weight w, wherever they begin: none waits longer than W - w turns."""
    shares = Shares(weights, strict=False)
    _turns(shares, start)
    turns = _turns(shares, sum(weights))
    assert [turns.count(n) for n in range(len(weights))] == weights


@given(WEIGHTS, st.lists(st.integers(0, 300), max_size=20))
def test_no_slot_is_lost_or_invented(weights: list[int], claims: list[int]) -> None:
    shares = Shares(weights, strict=False)
    for n in claims:
        taken = shares.take(n)
        assert sum(taken) == n
        assert min(taken) >= 0
        assert len(taken) == len(weights)


@given(WEIGHTS, st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_claims_of_any_size_come_to_the_same_as_single_turns(weights: list[int], claims: list[int]) -> None:
    whole, single = Shares(weights, strict=False), Shares(weights, strict=False)
    served = [0] * len(weights)
    for n in claims:
        served = [a + b for a, b in zip(served, whole.take(n), strict=True)]
    turns = _turns(single, sum(claims))
    assert served == [turns.count(n) for n in range(len(weights))]


@given(WEIGHTS, st.integers(1, 400))
def test_the_shares_are_never_far_off(weights: list[int], turns: int) -> None:
    shares = Shares(weights, strict=False)
    served = [0] * len(weights)
    for _ in range(turns):
        served[shares.take(1).index(1)] += 1
    for weight, count in zip(weights, served, strict=True):
        assert abs(count - turns * weight / sum(weights)) < len(weights)


@pytest.mark.parametrize("n", [0, 1, 7])
def test_strict_gives_everything_to_the_highest(n: int) -> None:
    shares = Shares([1, 1000], strict=True)
    for _ in range(3):
        assert shares.take(n) == [n, 0]


def test_one_priority_gets_everything() -> None:
    assert Shares([5], strict=False).take(7) == [7]
    assert Shares([5], strict=True).take(7) == [7]
