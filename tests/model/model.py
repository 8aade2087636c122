"""What the store promises, in plain Python: one dict of tasks, moved by the same verbs as the scripts.

Written from the scripts' headers, without their keys or their order of writes. `contents` renders the model as
Store.read does, so that after every step the two must be equal, key by key.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from taskward import codec
from taskward.broker.broker import REAP_GAP_MS, REAP_HOLD_MS, REAP_PAUSE_MS
from taskward.broker.messages import Refusal
from taskward.codec import Record
from taskward.events import TaskReaped
from taskward.policy.admission import depth_limits
from taskward.policy.retry import Decision
from taskward.task import Attempt, State, Submission, Submitted
from tests.model import stepping
from tests.model.books import Books, Held, Stepped

WORKER_FORGOTTEN_MS = 3_600_000
WAITING = ("ready", "scheduled", "retry")


class Model(Books):
    """One queue."""

    # ---- the verbs

    def submit(self, submissions: Sequence[Submission], closed: Collection[str] = ()) -> list[Submitted | Refusal]:
        limits = dict(zip(self.priorities, depth_limits(self.terms.max_queue_depth, len(self.priorities)), strict=True))
        answers: list[Submitted | Refusal] = []
        new: set[str] = set()
        woken = 0
        for n, submission in enumerate(submissions):
            _, _, json = codec.encode_spec(submission.spec).partition(";")
            holder = self._holder(submission)
            if holder is not None:
                same = holder not in self.tasks or self.tasks[holder].json == json
                answers.append(Submitted(holder, created=False) if same else Refusal(holder, conflict=True, waiting=0))
            elif submission.late is not None:
                answers.append(Refusal(submission.id, conflict=False, waiting=0, late=submission.late))
            elif submission.spec.priority in closed or 0 < limits[submission.spec.priority] <= self.waiting():
                answers.append(Refusal(submission.id, conflict=False, waiting=0))
            else:
                woken += self._insert(submission, json, n)
                new.add(submission.id)
                answers.append(Submitted(submission.id, created=True))
        for priority in self.priorities:
            scheduled = self.at("scheduled", priority)
            woken += bool(scheduled) and scheduled[0].id in new
        self.push_wake(woken)
        waiting = self.waiting() if self.terms.max_queue_depth or closed else 0
        return [Refusal(a.id, a.conflict, waiting, a.late) if isinstance(a, Refusal) else a for a in answers]

    def step(
        self,
        worker: str,
        number: int,
        settlements: Sequence[tuple[str, int, Decision, bytes]],
        wanted: int,
        shares: Sequence[int],
    ) -> Stepped:
        verdicts = "".join(stepping.settle(self, *settlement) for settlement in settlements)
        if wanted == 0:
            self.push_wake(1 if set(verdicts) & set("TDQ") else 0)
            return Stepped(verdicts, (), 0, 0)
        if worker not in self.claims:
            self.workers_seen[worker] = self.now_ms
        last, granted = self.claims.get(worker, (-1, ()))
        if number <= last:
            return Stepped(verdicts, stepping.replayed(self, granted) if number == last else (), 0, 0)
        stepping.promote(self)
        chosen = stepping.choose(self, wanted, shares)
        claims, expired = stepping.lease(self, worker, number, chosen)
        if len(chosen) == wanted:
            left = any(self.at("ready", priority) for priority in set(self.priorities) - self.paused)
            self.wake = self.wake or int(left)
            return Stepped(verdicts, claims, expired, 0)
        self.wake = 0
        return Stepped(verdicts, claims, expired, stepping.next_due(self))

    def extend(self, leases: Iterable[tuple[str, int]]) -> list[str]:
        answers = []
        for id, token in leases:
            task = self.holding(id, token)
            if task is not None:
                task.score = self.now_ms + self.terms.lease_ms
            answers.append("!" if task is None else task.cause or "")
        return answers

    def progress(self, id: str, token: int, report: bytes) -> bool:
        task = self.holding(id, token)
        if task is not None:
            task.progress = report.decode()
        return task is not None

    def reap(self) -> list[TaskReaped]:
        last, self.reaped_ms = self.reaped_ms, self.now_ms
        if last and self.now_ms - last > REAP_GAP_MS + 3 * self.terms.reaper_interval_ms:
            self.held_back_until_ms = self.now_ms + REAP_HOLD_MS
        if self.held_back():
            return []
        ended = [self._reap(task) for task in self.at("running") if task.score <= self.now_ms]
        self.push_wake(sum(reaped.end in ("queued", "retrying") for reaped in ended))
        return ended

    def held_back(self) -> bool:
        """Nothing is reaped: an outage is just over."""
        return 0 < self.held_back_until_ms - self.now_ms <= REAP_HOLD_MS

    def cancel(self, id: str, cause: str) -> State | None:
        task = self.tasks.get(id)
        if task is None:
            return None
        if task.place == "running":
            task.cancel = task.cancel or f"{cause} {self.now_ms}"
        elif task.place in WAITING:
            self._cancel_waiting(task, cause)
        return task.state

    def purge(self, priority: str, most: int, cause: str) -> int:
        gone = [task for place in WAITING for task in self.at(place, priority)][:most]
        for task in gone:
            self._cancel_waiting(task, cause)
        return len(gone)

    def redrive(self, ids: Sequence[str], spacing_us: int = 0, before: int = 0) -> list[bool]:
        return self._to_ready(ids, ("dead",), spacing_us, before)

    def discard(self, id: str) -> bool:
        dead = id in self.tasks and self.tasks[id].place == "dead"
        if dead:
            del self.tasks[id]
        return dead

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
        silent = [w for w, seen in self.workers_seen.items() if seen <= self.now_ms - WORKER_FORGOTTEN_MS]
        for worker in silent:
            self.leave(worker)
        return len(gone) + len(keys) + len(silent)

    def report(self, worker: str, info: bytes) -> None:
        self.workers[worker] = info.decode()
        self.workers_seen[worker] = self.now_ms

    def leave(self, worker: str) -> None:
        self.workers.pop(worker, None)
        self.workers_seen.pop(worker, None)
        self.claims.pop(worker, None)

    def pause(self, priority: str) -> None:
        self.paused.add(priority)

    def resume(self, priority: str) -> None:
        self.paused.discard(priority)
        self.push_wake(1)

    def pop_marker(self) -> bool:
        self.wake -= (there := self.wake > 0)
        return there

    def _cancel_waiting(self, task: Held, cause: str) -> None:
        queued_us = task.record.queued_us if task.record else self.now_us
        changed = {"state": "C", "token": 0, "finished_ms": self.now_ms, "cause": cause, "queued_us": queued_us}
        task.moved("done", self.now_ms + self.terms.result_ttl_ms, priority=task.priority, **changed)

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

    def _reap(self, task: Held) -> TaskReaped:
        record, now = task.record, self.now_ms
        assert record is not None
        task.history += self._reaped_line(record, task.cancelled_ms)
        reaps, cause = record.reaps + 1, task.cause
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

    def _reaped_line(self, record: Record, cancelled_ms: int | None) -> str:
        assert record.started_ms is not None
        attempt = Attempt(
            n=record.attempt,
            worker_id=record.worker,
            queued_ms=record.queued_us // 1000,
            started_ms=record.started_ms,
            finished_ms=self.now_ms,
            outcome="reaped",
            cancel_cause="lease_lost",
            cancelled_ms=cancelled_ms,
        )
        return codec.encode_attempt(attempt).decode() + "\n"

    def _to_ready(self, ids: Sequence[str], places: Sequence[str], spacing_us: int = 0, before: int = 0) -> list[bool]:
        moved: list[bool] = []
        later = 0
        for n, id in enumerate(ids, 5):  # the first id is the script's fifth argument
            task = self.tasks.get(id)
            there = task is not None and task.place in places
            if there and task is not None:
                anew = {"attempt": 0, "reaps": 0} if task.place == "dead" else {}
                changed: dict[str, Any] = {"state": "Q", "token": 0, "cause": None, "finished_ms": None, **anew}
                due_ms = (self.now_us + (before + sum(moved)) * spacing_us) // 1000
                place, score = ("scheduled", due_ms) if due_ms > self.now_ms else ("ready", self.now_us + n)
                task.moved(place, score, **(changed if task.record else {}))
                later += place == "scheduled"
            moved.append(there)
        self.push_wake(sum(moved) - later + bool(later))
        return moved
