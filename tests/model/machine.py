"""The machine, verb by verb: the model and the real scripts are told the same, and after every verb they must agree.

It runs in a thread beside the Trio run that holds the connection; each verb goes there and back.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from taskward.broker.broker import REAP_HOLD_MS
from taskward.broker.messages import Refusal
from taskward.errors import InvalidTask
from taskward.policy.retry import Decision
from taskward.task import Submitted
from tests.model.alarm import Alarm
from tests.model.books import Stepped
from tests.model.draws import (
    AGAIN,
    FORWARD_MS,
    IDS,
    LATE,
    LEASE,
    PRIORITY,
    SETTLEMENTS,
    SUBMISSION,
    TERMS,
    WANTED,
    WORKERS,
    Fields,
    Settlement,
    shares,
    submission,
)
from tests.model.ledger import Ledger
from tests.model.model import Model
from tests.model.real import Real
from tests.support.rig import PRIORITIES, Rig


class Verbs(RuleBasedStateMachine):
    """One example is one queue. `counts` gathers over all examples what happened how often."""

    def __init__(self, rig: Rig, counts: Counter[str]) -> None:
        super().__init__()
        self.rig = rig
        self.counts = counts
        self.real = Real(rig.broker)
        self.model = Model(priorities=PRIORITIES, terms=TERMS, now_us=rig.clock.us)
        self.ledger = Ledger(counts, max_reaps=TERMS.max_reaps)
        self.alarm = Alarm()
        self.leases: list[tuple[str, int]] = []
        self.last: dict[str, tuple[int, int, Sequence[int], Stepped]] = {}
        self.number = 0

    def teardown(self) -> None:
        self.rig.store.clear()

    def both(self, verb: str, *args: Any) -> Any:
        """The verb on both sides: equal answers, equal stores, and nothing that the ledger forbids."""
        self.model.now_us = self.rig.clock.us
        answer = trio.from_thread.run(getattr(self.real, verb), *args)
        predicted = getattr(self.model, verb)(*args)
        assert answer == predicted, verb
        contents = self.rig.store.read()
        assert contents == self.model.contents(), verb
        self.ledger.check(verb, contents)
        if verb != "step":  # a step's worker has yet to be told
            self.alarm.check(self.model)
        return answer

    def chosen(self, picks: Sequence[int]) -> list[tuple[str, int]]:
        return [self.leases[-1 - pick % len(self.leases)] for pick in picks] if self.leases else []

    def step(self, worker: str, settlements: Sequence[Settlement], wanted: int, high: int) -> Stepped:
        """A new step of a worker, remembered for its repetition."""
        self.number += 1
        split = shares(wanted, high)
        step: Stepped = self.both("step", worker, self.number, settlements, wanted, split)
        self.ledger.settled([(token, v) for (_, token, _, _), v in zip(settlements, step.verdicts, strict=True)])
        if wanted:
            self.ledger.granted(step.claims)
            self.leases += [(claim.id, claim.token) for claim in step.claims]
            self.last[worker] = (self.number, wanted, split, step)
        self.heard(worker, wanted, step)
        return step

    def heard(self, worker: str, wanted: int, step: Stepped) -> None:
        for verdict in step.verdicts:
            self.counts[f"verdict {verdict}"] += 1
        self.counts["expired"] += step.expired
        if wanted:
            self.alarm.told(worker, step, self.rig.clock.us)
        self.alarm.check(self.model)

    # ---- one verb a rule; `again` is a reply that was lost

    @rule(submissions=st.lists(SUBMISSION, min_size=1, max_size=3), again=AGAIN, late=LATE)
    def submit(self, submissions: list[Fields], again: bool, late: InvalidTask | None = None) -> None:
        made = [submission(self.rig.clock.ms, fields, late) for fields in submissions]
        first = self.both("submit", made)
        for answer in first:
            self.counts[f"submitted {_word(answer)}"] += 1
        if again:
            repeated = self.both("submit", made)
            if len({one.id for one in made}) == len(made):
                assert [answer.id for answer in repeated] == [answer.id for answer in first]

    @rule(worker=WORKERS, wanted=WANTED)
    def claim(self, worker: str, wanted: tuple[int, int]) -> None:
        self.step(worker, [], *wanted)

    @precondition(lambda self: self.leases)
    @rule(worker=WORKERS, picked=SETTLEMENTS, wanted=WANTED, again=AGAIN)
    def settle(
        self, worker: str, picked: list[tuple[int, Decision, bytes]], wanted: tuple[int, int], again: bool
    ) -> None:
        leases = self.chosen([pick for pick, _, _ in picked])
        settlements = [(*lease, decision, line) for lease, (_, decision, line) in zip(leases, picked, strict=True)]
        first = self.step(worker, settlements, *wanted)
        if again:
            repeated = self.both("step", worker, self.number, settlements, wanted[0], shares(*wanted))
            assert repeated.claims == first.claims
            assert set(repeated.verdicts) <= {"=", "!"}
            self.heard(worker, wanted[0], repeated)

    @precondition(lambda self: self.last)
    @rule(worker=WORKERS)
    def repeat_a_claim(self, worker: str) -> None:
        if worker in self.last:
            number, wanted, split, first = self.last[worker]
            again = self.both("step", worker, number, [], wanted, split)
            self.ledger.granted(again.claims, replay=True)
            assert set(again.claims) <= set(first.claims)
            self.counts["claims repeated"] += len(again.claims)
            self.heard(worker, wanted, again)

    @precondition(lambda self: self.last)
    @rule(worker=WORKERS, behind=st.integers(1, 3))
    def an_overtaken_claim(self, worker: str, behind: int) -> None:
        if worker in self.last:
            number, wanted, split, _ = self.last[worker]
            step = self.both("step", worker, max(0, number - behind), [], wanted, split)
            assert step.claims == ()
            self.counts["claims overtaken"] += 1
            self.heard(worker, wanted, step)

    @precondition(lambda self: self.leases)
    @rule(picks=st.lists(LEASE, min_size=1, max_size=3))
    def extend(self, picks: list[int]) -> None:
        self.renew(self.chosen(picks))

    def renew(self, leases: list[tuple[str, int]]) -> None:
        first = self.both("extend", leases)
        assert self.both("extend", leases) == first
        for answer in first:
            self.counts[f"extend {answer or 'renewed'}"] += 1

    @precondition(lambda self: self.leases)
    @rule(pick=LEASE, report=st.sampled_from([b'{"current":1}', b'{"current":2}']))
    def progress(self, pick: int, report: bytes) -> None:
        ((id, token),) = self.chosen([pick])
        self.counts[f"progress {self.both('progress', id, token, report)}"] += 1

    @rule(patient=st.booleans())
    def reap(self, patient: bool = True) -> None:
        reaped = self.both("reap")
        if patient and self.model.held_back():
            self.counts["reaping held back"] += 1
            self.rig.clock.move(ms=REAP_HOLD_MS)
            reaped = self.both("reap")
        for event in reaped:
            self.counts[f"reaped {event.end}"] += 1

    @rule(id=IDS, cause=st.sampled_from(["user", "deadline"]), again=AGAIN)
    def cancel(self, id: str, cause: str, again: bool) -> None:
        state = self.both("cancel", id, cause)
        if again:
            assert self.both("cancel", id, "user") == state

    @rule(priority=PRIORITY, most=st.integers(1, 4))
    def purge(self, priority: str, most: int) -> None:
        if self.both("purge", priority, most, "user") < most:
            assert self.both("purge", priority, most, "user") == 0

    @rule(
        ids=st.lists(IDS, min_size=1, max_size=3),
        spacing_us=st.sampled_from([0, 0, 300, 500_000]),
        before=st.sampled_from([0, 0, 2]),
    )
    def redrive(self, ids: list[str], spacing_us: int = 0, before: int = 0) -> None:
        self.both("redrive", ids, spacing_us, before)
        assert not any(self.both("redrive", ids, spacing_us, before))

    @rule(id=IDS)
    def discard(self, id: str) -> None:
        self.both("discard", id)
        assert not self.both("discard", id)

    @rule(ids=st.lists(IDS, min_size=1, max_size=3))
    def run_now(self, ids: list[str]) -> None:
        self.both("run_now", ids)
        assert not any(self.both("run_now", ids))

    @rule()
    def forget(self) -> None:
        self.both("forget")

    @rule(priority=PRIORITY, paused=st.booleans())
    def pause_or_resume(self, priority: str, paused: bool) -> None:
        if paused:
            self.both("pause", priority)
        else:
            self.alarm.resumed()
            self.both("resume", priority)

    @rule(worker=WORKERS, leaves=st.booleans())
    def report(self, worker: str, leaves: bool) -> None:
        if leaves:
            # Its numbers are forgotten: a worker that comes back has another id, or like here a larger number.
            self.last.pop(worker, None)
            self.both("leave", worker)
        else:
            self.both("report", worker, b"{}")

    @precondition(lambda self: self.model.wake)
    @rule(worker=WORKERS)
    def wake(self, worker: str) -> None:
        self.alarm.woken(worker)
        assert self.both("pop_marker")

    @rule()
    def lose_the_scripts(self) -> None:
        self.rig.store.client.script_flush()

    @rule(ms=FORWARD_MS)
    def time_passes(self, ms: int) -> None:
        self.rig.clock.move(ms=ms)

    @rule(us=st.sampled_from([1, 999, 1_000_000, 20_000_000]))
    def the_clock_steps_back(self, us: int) -> None:
        self.rig.clock.move(us=-us)
        self.alarm.stepped_back(us)


def _word(answer: Submitted | Refusal) -> str:
    if isinstance(answer, Submitted):
        return "new" if answer.created else "replay"
    return "conflict" if answer.conflict else "full"
