"""The loop monitor tells how long the loop was held, and how much of the time it worked."""

import time

import pytest
import trio

from taskward.telemetry import loop
from taskward.telemetry.loop import LoopMonitor


def hold(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


async def test_a_long_turn_is_the_lag():
    monitor = LoopMonitor()
    with monitor.watching():
        await trio.lowlevel.checkpoint()
        hold(0.05)
        await trio.lowlevel.checkpoint()
        await trio.sleep(0.01)
        assert 0.05 <= monitor.lag < 2.0


async def test_a_turn_that_has_not_ended_counts_already():
    monitor = LoopMonitor()
    with monitor.watching():
        hold(0.02)
        assert monitor.lag >= 0.02


async def test_an_idle_loop_is_not_busy_and_a_busy_one_is():
    monitor = LoopMonitor()
    with monitor.watching():
        await trio.sleep(0.2)
        assert monitor.busy_ratio < 0.5
    monitor = LoopMonitor()
    with monitor.watching():
        for _ in range(10):
            hold(0.01)
            await trio.lowlevel.checkpoint()
        assert 0.5 < monitor.busy_ratio <= 1.0


async def test_what_is_older_than_two_windows_is_forgotten(monkeypatch):
    monkeypatch.setattr(loop, "WINDOW_SECONDS", 0.05)
    monitor = LoopMonitor()
    with monitor.watching():
        await trio.lowlevel.checkpoint()
        hold(0.3)
        await trio.sleep(0.06)
        assert monitor.lag >= 0.3
        await trio.sleep(0.06)
        await trio.sleep(0.06)
        await trio.sleep(0.06)
        assert monitor.lag < 0.3


async def test_it_stops_watching():
    monitor = LoopMonitor()
    with monitor.watching():
        pass
    with pytest.raises(KeyError):
        trio.lowlevel.remove_instrument(monitor)
