"""What the store promises, in plain Python: one dict of tasks, moved by the same verbs as the scripts.

Written from the scripts' headers and from docs, without their keys or their order of writes. `contents` renders the
model as Store.read does, so that after every step the two must be equal, key by key.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskward import codec
from taskward.broker.broker import REAP_PAUSE_MS, Refusal, Terms
from taskward.codec import Record
from taskward.events import TaskReaped
from taskward.policy.retry import Bury, Cancel, Complete, Decision, Release, RetryIn
from taskward.task import Attempt, State, Submission, Submitted
from tests.model.held import NEVER_RAN, Claimed, Held, Stepped, in_order, of_claims, of_tasks
from tests.support.store import Contents

WAKE_LIMIT = 64
WORKER_FORGOTTEN_MS = 3_600_000


@dataclass
class Model:
    """One queue."""

    priorities: Sequence[str]
    terms: Terms
    now_us: int
    tasks: dict[str, Held] = field(default_factory=dict)
    keys: dict[str, tuple[str, int]] = field(default_factory=dict)
    fence: int = 0
    claims: dict[str, tuple[int, tuple[tuple[str, int], ...]]] = field(default_factory=dict)
    wake: int = 0
    workers: dict[str, tuple[str, int]] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)

    @property
    def now_ms(self) -> int:
        return self.now_us // 1000

    def at(self, place: str, priority: str | None = None) -> list[Held]:
        """The tasks of a place, in its order."""
        return in_order(t for t in self.tasks.values() if t.place == place and priority in (None, t.priority))

    # ---- the verbs

    def submit(self, submissions: Sequence[Submission]) -> list[Submitted | Refusal]:
        answers: list[Submitted | Refusal] = []
        new: set[str] = set()
        woken = 0
        for n, submission in enumerate(submissions):
            json = codec.encode_spec(submission.spec).decode()
            holder = self._holder(submission)
            if holder is not None:
                same = holder not in self.tasks or self.tasks[holder].json == json
                answers.append(Submitted(holder, created=False) if same else Refusal(holder, conflict=True, waiting=0))
            elif self.terms.max_queue_depth and self._waiting() >= self.terms.max_queue_depth:
                answers.append(Refusal(submission.id, conflict=False, waiting=0))
            else:
                woken += self._insert(submission, json, n)
                new.add(submission.id)
                answers.append(Submitted(submission.id, created=True))
        for priority in self.priorities:
            scheduled = self.at("scheduled", priority)
            woken += bool(scheduled) and scheduled[0].id in new
        self._push_wake(woken)
        waiting = self._waiting()
        return [Refusal(a.id, a.conflict, waiting) if isinstance(a, Refusal) else a for a in answers]

    def step(
        self,
        worker: str,
        number: int,
        settlements: Sequence[tuple[str, int, Decision, bytes]],
        wanted: int,
        shares: Sequence[int],
    ) -> Stepped:
        verdicts = "".join(self._settle(*settlement) for settlement in settlements)
        if wanted == 0:
            self._push_wake(1 if set(verdicts) & set("TDQ") else 0)
            return Stepped(verdicts, (), 0, 0)
        last, granted = self.claims.get(worker, (-1, ()))
        if number <= last:
            return Stepped(verdicts, self._replayed(granted) if number == last else (), 0, 0)
        self._promote()
        chosen = self._choose(wanted, shares)
        claims, expired = self._lease(worker, number, chosen)
        if len(chosen) == wanted:
            return Stepped(verdicts, claims, expired, 0)
        self.wake = 0
        return Stepped(verdicts, claims, expired, self._next_due())

    def extend(self, leases: Iterable[tuple[str, int]]) -> list[str]:
        answers = []
        for id, token in leases:
            task = self._holding(id, token)
            if task is not None:
                task.score = self.now_ms + self.terms.lease_ms
            answers.append("!" if task is None else task.cancel or "")
        return answers

    def progress(self, id: str, token: int, report: bytes) -> bool:
        task = self._holding(id, token)
        if task is not None:
            task.progress = report.decode()
        return task is not None

    def reap(self) -> list[TaskReaped]:
        ended = [self._reap(task) for task in self.at("running") if task.score <= self.now_ms]
        self._push_wake(sum(reaped.end in ("queued", "retrying") for reaped in ended))
        return ended

    def cancel(self, id: str, cause: str) -> State | None:
        task = self.tasks.get(id)
        if task is None:
            return None
        if task.place == "running":
            task.cancel = task.cancel or cause
        elif task.place in ("ready", "scheduled", "retry"):
            queued_us = task.record.queued_us if task.record else self.now_us
            changed = {"state": "C", "token": 0, "finished_ms": self.now_ms, "cause": cause, "queued_us": queued_us}
            task.moved("done", self.now_ms + self.terms.result_ttl_ms, priority=task.priority, **changed)
        return task.state

    def redrive(self, ids: Sequence[str]) -> list[bool]:
        return self._to_ready(ids, ("dead",))

    def run_now(self, ids: Sequence[str]) -> list[bool]:
        return self._to_ready(ids, ("scheduled", "retry"))

    def forget(self) -> int:
        gone = [t for t in self.at("done") if t.score <= self.now_ms]
        gone += [t for t in self.at("dead") if t.score <= self.now_ms - self.terms.dlq_ttl_ms]
        for task in gone:
            del self.tasks[task.id]
        keys = [key for key, (_, until) in self.keys.items() if until <= self.now_ms]
        for key in keys:
            del self.keys[key]
        silent = [w for w, (_, seen) in self.workers.items() if seen <= self.now_ms - WORKER_FORGOTTEN_MS]
        for worker in silent:
            self.leave(worker)
        return len(gone) + len(keys) + len(silent)

    def report(self, worker: str, info: bytes) -> None:
        self.workers[worker] = (info.decode(), self.now_ms)

    def leave(self, worker: str) -> None:
        self.workers.pop(worker, None)
        self.claims.pop(worker, None)

    def pause(self, priority: str) -> None:
        self.paused.add(priority)

    def resume(self, priority: str) -> None:
        self.paused.discard(priority)
        self.wake += 1

    def pop_marker(self) -> bool:
        self.wake -= (there := self.wake > 0)
        return there

    # ---- what they are made of

    def _waiting(self) -> int:
        return sum(task.place in ("ready", "scheduled", "retry") for task in self.tasks.values())

    def _holding(self, id: str, token: int) -> Held | None:
        task = self.tasks.get(id)
        running = task is not None and task.record is not None and task.record.state == "R"
        return task if running and task and task.record and task.record.token == token else None

    def _push_wake(self, n: int) -> None:
        self.wake = max(self.wake, min(self.wake + n, WAKE_LIMIT))

    def _holder(self, submission: Submission) -> str | None:
        if submission.id in self.tasks:
            return submission.id
        holder, until = self.keys.get(submission.spec.idempotency_key or "", (None, 0))
        return holder if until > self.now_ms else None

    def _insert(self, submission: Submission, json: str, n: int) -> int:
        """-> how many are to be woken for it."""
        spec = submission.spec
        due = self.now_ms + spec.delay_ms if spec.delay_ms is not None else spec.run_at_ms
        ahead = due is not None and due > self.now_ms
        self.tasks[submission.id] = Held(
            id=submission.id,
            json=json,
            created=self.now_ms,
            due=due if ahead and due is not None else "",
            start_by=spec.start_by_ms,
            priority=spec.priority,
            place="scheduled" if ahead else "ready",
            score=due if ahead and due is not None else self.now_us + n,
        )
        if spec.idempotency_key is not None:
            self.keys[spec.idempotency_key] = (submission.id, self.now_ms + self.terms.idempotency_ttl_ms)
        return int(not ahead)

    def _settle(self, id: str, token: int, decision: Decision, line: bytes) -> str:
        task = self.tasks.get(id)
        if task is None or task.record is None or task.record.token != token:
            return "!"
        if task.record.state != "R":
            return "="
        cause, task.cancel = task.cancel, None
        if cause and isinstance(decision, RetryIn | Release | Cancel):
            letter = self._end(task, "C", cause)
        else:
            letter = self._decided(task, decision)
        task.history += line.decode() + "\n" if line else ""
        return letter

    def _decided(self, task: Held, decision: Decision) -> str:
        assert task.record is not None
        now = self.now_ms
        match decision:
            case Complete(result):
                task.result = None if result == b"null" else result.decode()
                return self._end(task, "S", None)
            case Cancel(cause):
                return self._end(task, "C", cause)
            case RetryIn(seconds):
                task.moved("retry", now + round(seconds * 1000), state="T", finished_ms=now)
                return "T"
            case Bury():
                task.moved("dead", now, state="D", finished_ms=now)
                return "D"
            case Release():
                attempt = task.record.attempt - 1
                task.moved("ready", task.record.queued_us, state="Q", finished_ms=now, attempt=attempt)
                return "Q"

    def _end(self, task: Held, letter: str, cause: str | None) -> str:
        until = self.now_ms + self.terms.result_ttl_ms
        task.moved("done", until, state=letter, finished_ms=self.now_ms, cause=cause)
        return letter

    def _replayed(self, granted: Iterable[tuple[str, int]]) -> tuple[Claimed, ...]:
        claims = []
        for id, token in granted:
            task = self._holding(id, token)
            if task is not None and task.record is not None:
                task.score = self.now_ms + self.terms.lease_ms
                claims.append(Claimed(id, token, task.record.attempt, task.record.queued_us))
        return tuple(claims)

    def _promote(self) -> None:
        for task in self.at("scheduled") + self.at("retry"):
            if task.score <= self.now_ms:
                task.moved("ready", 1000 * task.score)

    def _choose(self, wanted: int, shares: Sequence[int]) -> list[Held]:
        ready = {p: [] if p in self.paused else self.at("ready", p) for p in self.priorities}
        chosen: list[Held] = []
        for priority, share in zip(self.priorities, shares, strict=True):
            chosen += ready[priority][:share]
            ready[priority] = ready[priority][share:]
        for priority in self.priorities:
            chosen += ready[priority][: wanted - len(chosen)]
        return chosen

    def _lease(self, worker: str, number: int, chosen: Sequence[Held]) -> tuple[tuple[Claimed, ...], int]:
        claims = []
        if chosen:
            self.fence = max(self.fence, self.now_us)
        for task in chosen:
            before = task.record or NEVER_RAN
            fixed = {"priority": task.priority, "queued_us": task.score, "cause": None}
            if task.start_by is not None and task.start_by <= self.now_ms:
                ended = {"state": "E", "token": 0, "finished_ms": self.now_ms, "worker": "", "started_ms": None}
                task.moved("done", self.now_ms + self.terms.result_ttl_ms, **fixed, **ended)
                continue
            self.fence += 1
            begun = {"state": "R", "token": self.fence, "finished_ms": None, "started_ms": self.now_ms}
            claims.append(Claimed(task.id, self.fence, before.attempt + 1, task.score))
            more = {"worker": worker, "attempt": before.attempt + 1}
            task.moved("running", self.now_ms + self.terms.lease_ms, **fixed, **begun, **more)
        self.claims[worker] = (number, tuple((claim.id, claim.token) for claim in claims))
        return tuple(claims), len(chosen) - len(claims)

    def _next_due(self) -> float | None:
        due = [t.score for t in self.at("scheduled") + self.at("retry") if t.priority not in self.paused]
        return max(0, min(due) - self.now_ms) / 1000 if due else None

    def _reap(self, task: Held) -> TaskReaped:
        record, now = task.record, self.now_ms
        assert record is not None
        task.history += self._reaped_line(record)
        reaps, cause = record.reaps + 1, task.cancel
        common = {"reaps": reaps, "token": 0, "finished_ms": now}
        task.cancel = None
        if cause:
            task.moved("done", now + self.terms.result_ttl_ms, state="C", cause=cause, **common)
            return TaskReaped(task.id, task.priority, "cancelled")
        if reaps >= self.terms.max_reaps:
            task.moved("dead", now, state="D", cause="lease_lost", **common)
            return TaskReaped(task.id, task.priority, "dead")
        common["attempt"] = record.attempt - 1
        if reaps > 1:
            task.moved("retry", now + REAP_PAUSE_MS * (reaps - 1), state="T", **common)
            return TaskReaped(task.id, task.priority, "retrying")
        task.moved("ready", record.queued_us, state="Q", **common)
        return TaskReaped(task.id, task.priority, "queued")

    def _reaped_line(self, record: Record) -> str:
        assert record.started_ms is not None
        attempt = Attempt(
            n=record.attempt,
            worker_id=record.worker,
            queued_ms=record.queued_us // 1000,
            started_ms=record.started_ms,
            finished_ms=self.now_ms,
            outcome="reaped",
            cancel_cause="lease_lost",
        )
        return codec.encode_attempt(attempt).decode() + "\n"

    def _to_ready(self, ids: Sequence[str], places: Sequence[str]) -> list[bool]:
        moved = []
        for n, id in enumerate(ids, 3):  # the first id is the script's third argument
            task = self.tasks.get(id)
            there = task is not None and task.place in places
            if there and task is not None:
                anew = {"attempt": 0, "reaps": 0} if task.place == "dead" else {}
                changed: dict[str, Any] = {"state": "Q", "token": 0, "cause": None, "finished_ms": None, **anew}
                task.moved("ready", self.now_us + n, **(changed if task.record else {}))
            moved.append(there)
        self._push_wake(sum(moved))
        return moved

    # ---- as the store shows it

    def contents(self) -> Contents:
        """What Store.read must give."""
        found = of_tasks(list(self.tasks.values()), self.priorities) | {
            "idempotency": {key: id for key, (id, _) in self.keys.items()},
            "idempotency_expiry": {key: until for key, (_, until) in self.keys.items()},
            "fence": str(self.fence) if self.fence else "",
            "claims": of_claims(self.claims),
            "wake": ["1"] * self.wake,
            "workers": {worker: info for worker, (info, _) in self.workers.items()},
            "workers_seen": {worker: seen for worker, (_, seen) in self.workers.items()},
            "paused": self.paused,
        }
        return {name: value for name, value in found.items() if value}
