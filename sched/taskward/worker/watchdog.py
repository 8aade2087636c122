"""The watchdog: a thread that keeps the leases of a blocked loop for a while, and says who blocks it."""

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import trio

from taskward.broker.broker import TRUSTED_SHARE
from taskward.broker.lifeline import Lifeline
from taskward.errors import BrokerUnavailable
from taskward.events import LoopStalled, Observer
from taskward.worker.running import Running

REPORT_SECONDS = 1.0
# How long after a stall /readyz goes on saying so.
REMEMBER_SECONDS = 30.0


class Watchdog:
    """Slow is not dead: while the loop stands still, the thread renews its leases, up to `limit` seconds.

    After that it stops, the leases expire and the tasks are run elsewhere.
    """

    def __init__(
        self,
        *,
        lifeline: Lifeline,
        held: Mapping[int, Running],
        lease_seconds: float,
        limit: float,
        observe: Observer,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._lifeline = lifeline
        self._held = held
        self._lease_seconds = lease_seconds
        self._limit = limit
        self._observe = observe
        self._clock = clock
        self._pulse = clock()
        self._last_stall = float("-inf")
        self._loop_thread = threading.get_ident()
        self._to_trio_time = 0.0
        self._stop = threading.Event()

    @contextmanager
    def watching(self, meanwhile: Callable[[float], None] = lambda _seconds: None) -> Iterator[None]:
        """Run the thread for as long as the block lasts. Enter it from the loop's own thread.

        `meanwhile` is called again and again while the loop stands still, with the seconds it may take.
        """
        self._pulse = self._clock()
        self._loop_thread = threading.get_ident()
        self._to_trio_time = trio.current_time() - self._clock()
        thread = threading.Thread(target=self._watch, args=[meanwhile], name="taskward-watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(timeout=REPORT_SECONDS)
            self._lifeline.close()

    async def beat(self) -> None:
        """The loop's pulse. Until cancelled."""
        while True:
            self._pulse = self._clock()
            await trio.sleep(self._interval)

    @property
    def loop_blocked(self) -> bool:
        """The loop stands still, or did a moment ago."""
        return self._clock() - self._last_stall < REMEMBER_SECONDS

    @property
    def _interval(self) -> float:
        return min(REPORT_SECONDS / 4, self._lease_seconds / 12)

    def _watch(self, meanwhile: Callable[[float], None]) -> None:
        reported = False
        renewed = self._clock()
        while not self._stop.wait(self._interval):
            now = self._clock()
            stalled = now - self._pulse
            if stalled < min(REPORT_SECONDS, self._lease_seconds / 4):
                reported = False
                continue
            self._last_stall = now
            if not reported:
                reported = True
                self._observe(LoopStalled(stalled, self._stack(), tuple(r.lease.id for r in list(self._held.values()))))
            if stalled < self._limit and now - renewed > self._lease_seconds / 4:
                renewed = now
                self._renew()
            meanwhile(self._interval)

    def _renew(self) -> None:
        held = [r for r in list(self._held.values()) if r.lost_op is None]
        if not held:
            return
        until = self._clock() + self._to_trio_time + TRUSTED_SHARE * self._lease_seconds
        try:
            answers = self._lifeline.extend([r.lease for r in held])
        except BrokerUnavailable:
            return  # the keeper says so when the loop turns again
        for running, answer in zip(held, answers, strict=True):
            if answer != "!":
                running.held_until = until

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - the documented way to another thread's stack
        return "".join(traceback.format_stack(frame)[-12:]) if frame else ""
