"""Nothing acknowledged is lost, nothing runs unseen: with faults drawn from a seed, over and over."""

import os
from pathlib import Path

import pytest

from tests.torture.torture import Outcome, torture

SEED = int(os.environ.get("TASKWARD_SEED", "1"))
SEEDS = int(os.environ.get("TASKWARD_SEEDS", "5"))
SECONDS = float(os.environ.get("TASKWARD_SECONDS", "60"))


async def test_a_short_one(tmp_path: Path) -> None:
    assert_clean(await torture(tmp_path, seed=SEED, seconds=16.0))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEED, SEED + SEEDS))
async def test_a_long_one(tmp_path: Path, seed: int) -> None:
    assert_clean(await torture(tmp_path, seed=seed, seconds=SECONDS))


def assert_clean(outcome: Outcome) -> None:
    """And that it was no walk in the park."""
    print(outcome)
    assert not outcome.verdict.wrong, f"{outcome}\n{outcome.verdict.wrong}"
    assert outcome.verdict.acknowledged > 20
    assert outcome.faults.total() > 10
    assert set(outcome.ends) <= {"succeeded", "cancelled"}, outcome
