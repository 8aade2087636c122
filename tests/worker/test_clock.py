"""The worker's clock: never early, and not late where it matters."""

import time

import pytest
import trio

from taskward.worker.clock import SHORT_SECONDS, STEP_SECONDS, PunctualClock


@pytest.mark.parametrize("left", [-1.0, 0.0, 0.0004, 0.0099, 0.0101, 0.04])
def test_a_short_wait_ends_a_step_before_its_deadline(left: float) -> None:
    clock = PunctualClock()
    allowed = clock.deadline_to_sleep_time(clock.current_time() + left)
    assert 0 <= allowed <= max(0.0, left - STEP_SECONDS)


def test_a_long_wait_is_not_cut() -> None:
    clock = PunctualClock()
    before = time.perf_counter()
    allowed = clock.deadline_to_sleep_time(before + 2 * SHORT_SECONDS)
    assert allowed == pytest.approx(2 * SHORT_SECONDS - (time.perf_counter() - before), abs=SHORT_SECONDS / 2)


def test_nobody_is_woken_early() -> None:
    async def slept(seconds: float) -> float:
        began = time.perf_counter()
        await trio.sleep(seconds)
        return time.perf_counter() - began

    for seconds in (0.0005, 0.0031, 0.06):
        assert trio.run(slept, seconds, clock=PunctualClock()) >= seconds
