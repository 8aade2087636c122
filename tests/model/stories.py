"""The machine, story by story: chains of verbs, so that the rare happens often; and what readers must see."""

import itertools
from collections.abc import Sequence

import trio
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from taskward.broker import reading
from taskward.broker.reading import Filter
from taskward.policy.retry import Bury, Complete, Decision, Release, RetryIn
from taskward.task import CancelCause
from tests.model.books import Stepped
from tests.model.draws import (
    AGAIN,
    DECISIONS,
    DUE,
    EVERY_DECISION,
    FORWARD_MS,
    IDS,
    LINE,
    PRIORITY,
    SUBMISSION,
    TERMS,
    Fields,
    submission,
)
from tests.model.machine import Verbs
from tests.support.rig import PRIORITIES


class Machine(Verbs):
    """All rules."""

    def everything(self, worker: str = "w1") -> Stepped:
        """Claim as much as there is, of every priority, and see that there is something."""
        if not self.model.at("ready"):
            free = sorted(set("abcde") - set(self.model.tasks))
            self.both("submit", [submission(self.rig.clock.ms, (id, "high", None, None, None, 1)) for id in free[:2]])
        for priority in PRIORITIES:
            if priority in self.model.paused:
                self.pause_or_resume(priority, paused=False)
        return self.step(worker, [], 9, 5)

    @initialize(submissions=st.lists(SUBMISSION, min_size=1, max_size=3))
    def begin(self, submissions: list[Fields]) -> None:
        self.submit(submissions, again=False)

    @rule(due=DUE, again=AGAIN, priority=PRIORITY)
    def more_come_than_there_is_room_for(
        self, due: tuple[str, int] | None, again: bool, priority: str = "high"
    ) -> None:
        self.submit([(id, priority, due, None, None, 1) for id in "abcde"], again)

    @rule(submissions=st.lists(SUBMISSION, min_size=1, max_size=3), priority=PRIORITY)
    def memory_is_short(self, submissions: list[Fields], priority: str) -> None:
        self.both("submit", [submission(self.rig.clock.ms, fields) for fields in submissions], [priority])

    @rule()
    def one_of_many_retries_is_claimed(self) -> None:
        claims = self.everything().claims
        self.step("w1", [(claim.id, claim.token, RetryIn(1.5, "exception"), LINE) for claim in claims], 0, 0)
        self.rig.clock.move(ms=1500)
        self.step("w1", [], 1, 1)
        trio.from_thread.run(self._read)

    @rule(due=DUE)
    def work_comes_during_a_pause(self, due: tuple[str, int] | None) -> None:
        self.pause_or_resume("high", paused=True)
        self.more_come_than_there_is_room_for(due, again=False, priority="high")
        self.step("w1", [], 9, 5)

    @rule(ms=FORWARD_MS, reaped=st.booleans())
    def a_claims_reply_is_lost(self, ms: int, reaped: bool) -> None:
        self.everything()
        self.rig.clock.move(ms=ms)
        if reaped:
            self.reap()
        self.repeat_a_claim("w1")

    @rule(started=st.booleans())
    def what_waits_is_started_or_cancelled(self, started: bool) -> None:
        claims = self.everything().claims
        self.step("w1", [(claim.id, claim.token, RetryIn(30.0, "exception"), LINE) for claim in claims], 0, 0)
        waiting = [task.id for task in self.model.at("retry") + self.model.at("scheduled")]
        if started:
            self.run_now(waiting or ["a"])
        for id in waiting:
            self.cancel(id, "user", again=True)

    @rule(times=st.integers(1, TERMS.max_reaps + 1), flagged=st.sampled_from(["", "", *"abcde"]))
    def workers_crash(self, times: int, flagged: str) -> None:
        for _ in range(times):
            self.rig.clock.move(ms=15_000)
            self.everything()
            if flagged:
                self.cancel(flagged, "user", again=False)
            self.rig.clock.move(ms=TERMS.lease_ms)
            self.reap()

    @rule(decisions=st.tuples(*[DECISIONS] * 3), flagged=st.integers(0, 2), late=st.booleans())
    def everything_ends(self, decisions: Sequence[Decision], flagged: int, late: bool) -> None:
        """All that can be claimed is, one of it is cancelled meanwhile, all of it ends in its way, one twice."""
        claims = self.everything().claims
        for claim in claims[flagged : flagged + 1]:
            self.cancel(claim.id, "user", again=False)
        self.renew([(claim.id, claim.token) for claim in claims])
        if late:
            self.rig.clock.move(ms=TERMS.lease_ms)
            self.reap()
        ends = [(claim.id, claim.token, decisions[n % len(decisions)], LINE) for n, claim in enumerate(claims)]
        self.step("w1", [*ends, *ends[:1]], 0, 0)

    @rule(key=st.sampled_from(["k1", "k2"]), first=IDS, second=IDS)
    def a_key_outlives_its_task_and_ends(self, key: str, first: str, second: str) -> None:
        for id, ms in ((first, TERMS.result_ttl_ms), (second, TERMS.idempotency_ttl_ms - TERMS.result_ttl_ms)):
            self.submit([(id, "high", None, None, key, 1)], again=True)
            self.everything_ends([Complete(b"1")], 9, late=False)
            self.rig.clock.move(ms=ms)
            if id == first:
                self.forget()
        self.submit([(second, "high", None, None, key, 2)], again=True)

    @rule(id=IDS, ms=st.sampled_from([900, 12_000]))
    def a_task_expires(self, id: str, ms: int) -> None:
        made = submission(self.rig.clock.ms, (id, "high", None, ("expires_ms", ms), None, 1))
        self.both("submit", [made])
        self.rig.clock.move(ms=ms)
        self.everything()

    @rule(run_again=st.booleans())
    def the_dead_rise(self, run_again: bool) -> None:
        claims = self.everything().claims
        self.step("w1", [(claim.id, claim.token, Bury("exception"), LINE) for claim in claims], 0, 0)
        self.redrive([task.id for task in self.model.at("dead")] or ["a"])
        if run_again:
            self.everything_ends([Complete(b"1")], 0, late=False)

    @rule(dead_too=st.booleans())
    def retention_ends(self, dead_too: bool) -> None:
        self.rig.clock.move(ms=TERMS.dlq_ttl_ms if dead_too else TERMS.result_ttl_ms)
        self.forget()

    @rule(us=st.sampled_from([1, 5_000_000]))
    def a_lease_changes_hands_while_the_clock_steps_back(self, us: int) -> None:
        claims = self.everything().claims
        released = [(claim.id, claim.token, Release(CancelCause.SHUTDOWN), b"") for claim in claims]
        self.step("w1", released, 0, 0)
        self.the_clock_steps_back(us)
        self.everything("w2")
        self.step("w1", [(*lease[:2], Complete(b"1"), b"") for lease in released], 0, 0)

    @invariant()
    def readers_see_the_same(self) -> None:
        if self.number % 4:  # not every time: it is slow
            return
        trio.from_thread.run(self._read)

    async def _read(self) -> None:
        self.model.now_us = self.rig.clock.us
        found = await reading.get(self.rig.broker, list("abcde"))
        for id, task in zip("abcde", found, strict=True):
            held = self.model.tasks.get(id)
            assert (task and task.state) == (held and held.state)
            if task is not None and held is not None and held.record is not None:
                assert (task.attempt, task.token or 0) == (held.record.attempt, held.record.token)
        assert await self.rig.broker.audit([*"abcde", "nobody"], repair=True) == []
        page = await reading.page(self.rig.broker, Filter(), size=9, token=None)
        assert sorted(task.id for task in page.tasks) == sorted(self.model.tasks)
        sample = await self.rig.broker.sample()
        for depths in sample.priorities:
            counted = [len(self.model.at(place, depths.priority)) for place in ("ready", "scheduled", "retry", "dead")]
            assert [depths.queued, depths.scheduled, depths.retrying, depths.dead] == counted
        assert (sample.running, sample.finished) == (len(self.model.at("running")), len(self.model.at("done")))


def tell_the_rare(machine: Machine) -> None:
    """Without dice: every decision, also about what is being cancelled or was reaped; and all that seldom comes up."""
    for decision, flagged, late in itertools.product(EVERY_DECISION, (0, 9), (False, True)):
        machine.everything_ends([decision], flagged, late=late)
        machine.time_passes(60_000)
        machine.everything_ends([Complete(b"1")], 9, late=False)
        machine.retention_ends(dead_too=True)
    for started, due in itertools.product((True, False), (None, ("delay_ms", 99_000))):
        machine.more_come_than_there_is_room_for(due, again=True)
        machine.what_waits_is_started_or_cancelled(started)
        machine.retention_ends(dead_too=True)
    machine.submit([("a", "high", ("delay_ms", 1), ("expires_ms", 900), None, 1)], again=False)
    machine.time_passes(1000)
    machine.a_task_expires("b", 900)
    machine.retention_ends(dead_too=True)
    *_, lease = machine.everything().claims
    machine.progress(0, b'{"current":1}')
    machine.step("w1", [(lease.id, lease.token, Complete(b"1"), b"")], 0, 0)
    machine.progress(0, b'{"current":2}')
    machine.retention_ends(dead_too=True)
    only_what_is_paused_is_left(machine)
    a_claim_is_repeated_after_a_retry(machine)
    the_clock_steps_back_after_an_outage(machine)
    machine.teardown()


def only_what_is_paused_is_left(machine: Machine) -> None:
    """Nobody is to be woken for it."""
    machine.submit([("d", "high", None, None, None, 1), ("e", "low", None, None, None, 1)], again=False)
    machine.pause_or_resume("high", paused=True)
    while machine.model.wake:
        machine.wake("w1")
    machine.step("w1", [], 1, 0)
    machine.pause_or_resume("high", paused=False)


def a_claim_is_repeated_after_a_retry(machine: Machine) -> None:
    """Its record still has the claim's token, but it does not run."""
    *_, claim = machine.everything().claims
    machine.step("w1", [(claim.id, claim.token, RetryIn(30.0, "exception"), LINE)], 0, 0)
    machine.repeat_a_claim("w1")


def the_clock_steps_back_after_an_outage(machine: Machine) -> None:
    """What is held back for a moment is not held back for as long as the clock needs to come there again."""
    machine.everything()
    machine.reap(patient=False)
    machine.time_passes(35_000)
    machine.reap(patient=False)
    machine.the_clock_steps_back(20_000_000)
    machine.reap(patient=False)
