"""The pool: standing slots, and the one loop that settles and claims for all of them."""

import contextlib
import math
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple

import trio

from taskward.app import App
from taskward.broker.broker import Broker
from taskward.broker.messages import Settlement, Step
from taskward.broker.outage import Outage
from taskward.errors import BrokerUnavailable, DecodeError
from taskward.events import LeaseWasLost, Observer, SlotsChanged, TaskSettled, TasksExpired, TaskStarted
from taskward.policy.priority import Shares
from taskward.policy.retry import Bury, Cancel, Failed, Outcome, Release, RetryIn, Succeeded
from taskward.task import CancelCause, ErrorInfo, Lease
from taskward.worker import slot
from taskward.worker.ending import Defaults, decision_of, running_of, settlement_of
from taskward.worker.executor import Executor
from taskward.worker.pace import Pace
from taskward.worker.running import Running

MOST_PER_STEP = 256
# Results that are written together: also a slow line carries them well within the time a call has.
MOST_BYTES_PER_STEP = 2 * 1024 * 1024
# Fewer tasks than that are claimed all at once: a round trip for half of them would cost more than it wins.
LEAST_PER_CLAIM = 32
# An idle worker is woken by markers. This is the net under them, not the way it learns of work.
IDLE_SECONDS = 5.0
# A task claimed ahead of a free slot waits about one round trip for it. Where slots do not come, it is given back.
AHEAD_SECONDS = 0.5
# While tasks wait for slots, fewer ends than that wait for company: a step for one costs as much as one for several.
COMPANY = 8
LINGER_SECONDS = 0.001

Span = Callable[[Lease], AbstractContextManager[object]]


class _Ended(NamedTuple):
    """`outcome` None: it was given back before it began."""

    running: Running
    outcome: Outcome | None
    settlement: Settlement


class _Claim(NamedTuple):
    """What is asked for: `number` grows, and the same number again gets the same answer."""

    number: int
    wanted: int
    shares: list[int]


class Pool:
    """Runs tasks in `concurrency` slots until told to stop. `held`: every lease not yet recorded as ended, by token."""

    def __init__(
        self,
        *,
        app: App,
        broker: Broker,
        worker_id: str,
        concurrency: int,
        shares: Shares,
        defaults: Defaults,
        executor: Executor,
        observe: Observer,
        span: Span | None = None,
    ) -> None:
        self.held: dict[int, Running] = {}
        self.concurrency = concurrency
        self.last_contact = -math.inf
        self._app = app
        self._broker = broker
        self._worker_id = worker_id
        self._shares = shares
        self._defaults = defaults
        self._executor = executor
        self._observe = observe
        self._span = span
        # Slots that have no task. Below zero: so many tasks have no slot yet.
        self._free = concurrency
        self._most_per_claim = min(MOST_PER_STEP, max(LEAST_PER_CLAIM, concurrency))
        most_ahead = min(2 * concurrency, self._most_per_claim)
        self._pace = Pace(most=most_ahead)
        self._ended: list[_Ended] = []
        self._number = 0
        self._claiming = True
        # While there is nothing to claim, a sleeper waits in the store for all the slots that are free.
        self._sleep_seconds: float | None = None
        self._sleeper = trio.CancelScope()
        self._fell_asleep = trio.Event()
        self._kick = trio.Event()
        self._drained = trio.Event()
        self._send, self._receive = trio.open_memory_channel[Running](concurrency + most_ahead)

    @property
    def busy(self) -> int:
        """Slots whose handler's scope has not exited."""
        return self.concurrency - max(0, self._free)

    @property
    def draining(self) -> bool:
        """Nothing more is claimed."""
        return not self._claiming

    async def run(self) -> None:
        """Claim, run and settle until `drain`. The caller keeps the leases meanwhile."""
        self._observe(SlotsChanged(0, self.concurrency))
        async with trio.open_nursery() as sleeping:
            sleeping.start_soon(self._sleep_until_woken)
            async with trio.open_nursery() as working, self._send:
                for _ in range(self.concurrency):
                    working.start_soon(partial(slot.work, self._receive, attempt=self._attempt, ended=self._end))
                await self._step_until_drained()
            assert not self._claiming, "slots end after a drain only"
            sleeping.cancel_scope.cancel()
        self._drained.set()

    async def drain(self, *, grace: float, cancel_grace: float) -> bool:
        """Claim no more; let what runs finish for `grace` seconds, then cancel and release it.

        -> False where a handler is still there `cancel_grace` later, or its end could not be recorded.
        """
        self._claiming = False
        self._kick.set()
        self._sleeper.cancel()
        self._give_all_back()
        with trio.move_on_after(grace):
            await self._drained.wait()
        for running in list(self.held.values()):
            running.cancel(CancelCause.SHUTDOWN)
        with trio.move_on_after(cancel_grace):
            await self._drained.wait()
        return self._drained.is_set()

    # ---- the one loop that talks to the store

    async def _step_until_drained(self) -> None:
        outage = Outage("worker", self._observe)
        while self._claiming or self.held or self._asleep:
            if self._may_linger:
                await self._linger()
            ended = self._to_settle()
            self._ended = self._ended[len(ended) :]
            # The free slots of a sleeper are promised already.
            claim = self._claim(0 if self._asleep or not self._claiming else self._free + self._pace.ahead)
            if ended or claim.wanted:
                sent = trio.current_time()
                step = await self._step(ended, claim, outage)
                self._pace.round_trip(sent, trio.current_time())
                self._record(ended, step)
                self._hand_out(step, claim)
            else:
                await self._until_kicked()

    def _to_settle(self) -> list[_Ended]:
        """The oldest ends, as many as one call takes."""
        size = 0
        for n, (_, outcome, _) in enumerate(self._ended[:MOST_PER_STEP]):
            size += len(outcome.result) if isinstance(outcome, Succeeded) else 0
            if size > MOST_BYTES_PER_STEP and n > 0:
                return self._ended[:n]
        return self._ended[:MOST_PER_STEP]

    @property
    def _may_linger(self) -> bool:
        return self._free < 0 and 0 < len(self._ended) < COMPANY and self._claiming

    async def _linger(self) -> None:
        with trio.move_on_after(LINGER_SECONDS):
            while self._may_linger:
                self._kick = trio.Event()
                await self._kick.wait()

    async def _until_kicked(self) -> None:
        if self._free < 0:
            with trio.move_on_after(AHEAD_SECONDS) as waiting:
                await self._kick.wait()
            if waiting.cancelled_caught:
                self._give_all_back()
                return
        else:
            await self._kick.wait()
        self._kick = trio.Event()

    @property
    def _asleep(self) -> bool:
        return self._sleep_seconds is not None

    def _claim(self, free: int) -> _Claim:
        wanted = min(max(0, free), self._most_per_claim)
        self._number += bool(wanted)
        return _Claim(self._number, wanted, self._shares.take(wanted))

    async def _sleep_until_woken(self) -> None:
        """Whenever there is nothing to claim: sleep in the store, and come back with what there is then."""
        outage = Outage("wake", self._observe)
        unanswered: _Claim | None = None
        with self._sleeper:
            while True:
                await self._fell_asleep.wait()
                self._fell_asleep = trio.Event()
                claim = unanswered = self._claim(self._free)
                step = await self._step_asleep(claim, outage)
                self._sleep_seconds = unanswered = None
                self._hand_out(step, claim)
                await trio.lowlevel.checkpoint()  # handlers begin before the store is asked again
                self._kick.set()
        if unanswered is not None:  # a stop: whether it has claimed, the same again tells
            self._hand_out(await self._step([], unanswered, outage), unanswered)
        self._sleep_seconds = None
        self._kick.set()

    async def _step_asleep(self, claim: _Claim, outage: Outage) -> Step:
        try:
            step = await self._ask([], claim, asleep=self._sleep_seconds or 0.0)
        except BrokerUnavailable as exc:
            await outage.sit_out(exc)
            return await self._step([], claim, outage)
        outage.over()
        return step

    async def _ask(self, settlements: list[Settlement], claim: _Claim, *, asleep: float = 0.0) -> Step:
        step = await self._broker.step(
            settlements,
            worker=self._worker_id,
            number=claim.number,
            shares=claim.shares,
            wanted=claim.wanted,
            asleep=asleep,
        )
        self.last_contact = trio.current_time()
        return step

    async def _step(self, ended: list[_Ended], claim: _Claim, outage: Outage) -> Step:
        """Repeat the very same step until it is answered: a lost reply is answered again.

        Or until a stop, where nothing is held: what a claim has taken whose answer never came is reaped.
        """
        settlements = [end.settlement for end in ended]
        while True:
            try:
                step = await self._ask(settlements, claim)
            except BrokerUnavailable as exc:
                if not self._claiming and not self.held:
                    return Step("", [], [], 0, None)
                await outage.sit_out(exc)
            else:
                outage.over()
                return step

    def _record(self, ended: list[_Ended], step: Step) -> None:
        for end, verdict in zip(ended, step.verdicts, strict=True):
            running, lease = end.running, end.settlement.lease
            self.held.pop(lease.token, None)
            if verdict == "!":
                self._observe(LeaseWasLost(lease, running.label, running.seconds, "settle"))
            elif end.outcome is not None:
                decision = end.settlement.decision
                if verdict == "C" and isinstance(decision, RetryIn | Release):
                    decision = Cancel(CancelCause.USER)  # it was cancelled before this was recorded
                self._observe(
                    TaskSettled(
                        lease,
                        running.label,
                        end.outcome,
                        decision,
                        running.seconds,
                        running.span,
                        running.cancelling,
                    )
                )

    def _hand_out(self, step: Step, claim: _Claim) -> None:
        now = trio.current_time()
        for lease in step.leases:
            self._free -= 1
            self.held[lease.token] = running = running_of(lease, self._app, self._defaults, claimed=now)
            if self._claiming:
                self._send.send_nowait(running)
            else:
                self._give_back(running)
        for lease, error in step.broken:
            self._bury_unreadable(lease, error)
        if step.expired:
            self._observe(TasksExpired(step.expired))
        if claim.wanted and step.wait != 0 and self._claiming and self._free > 0:
            self._sleep_seconds = IDLE_SECONDS if step.wait is None else min(step.wait, IDLE_SECONDS)
            self._fell_asleep.set()
        if step.leases or step.verdicts:
            self._observe(SlotsChanged(self.busy, self.concurrency))

    def _give_all_back(self) -> None:
        """What no slot has taken yet. Nothing more is claimed ahead until tasks end quickly again."""
        self._pace.forget()
        with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel):
            while True:
                self._give_back(self._receive.receive_nowait())

    def _give_back(self, running: Running) -> None:
        self._free += 1
        running.exited = True
        self._ended.append(_Ended(running, None, Settlement(running.lease, Release(CancelCause.SHUTDOWN))))

    # ---- the slots

    async def _attempt(self, running: Running) -> Outcome:
        lease = running.lease
        waited = (lease.started_us - lease.queued_us) / 1e6 + running.began - running.claimed
        started = TaskStarted(lease, running.label, waited)
        if self._span is None:
            self._observe(started)
            return await self._executor.attempt(running)
        with self._span(lease) as running.span:
            self._observe(started)
            return await self._executor.attempt(running)

    def _end(self, running: Running, outcome: Outcome) -> None:
        lease = running.lease
        self._free += 1
        self._pace.end(running.seconds)
        if running.lost_op is not None:
            del self.held[lease.token]
            self._observe(LeaseWasLost(lease, running.label, running.seconds, running.lost_op))
        else:
            decision = decision_of(running, outcome, self._defaults, dice=random.random())
            self._ended.append(_Ended(running, outcome, settlement_of(running, outcome, decision, self._worker_id)))
        self._kick.set()

    def _bury_unreadable(self, lease: Lease, error: DecodeError) -> None:
        running = Running(lease, None, label=self._app.label(""), timeout=0.0, claimed=trio.current_time())
        running.exited = True
        self.held[lease.token] = running
        outcome = Failed(ErrorInfo("DecodeError", str(error)), "undecodable", retryable=False)
        decision = Bury("undecodable", outcome.error)
        self._ended.append(_Ended(running, outcome, settlement_of(running, outcome, decision, self._worker_id)))
        self._observe(TaskStarted(lease, running.label, 0.0))
