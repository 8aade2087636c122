"""The ledger: what handlers, workers and the store say, held against one another. Pure."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

# What two readings of one machine's clock may differ by.
SLACK_MS = 5
FINAL = frozenset({"succeeded", "dead", "cancelled"})


@dataclass(frozen=True, slots=True)
class Run:
    """A handler's run; `wall` and `began` are one moment on two clocks. `ended` None: its process died before it."""

    id: str
    token: int
    pid: int
    wall: float
    began: float
    ended: float | None = None
    how: str = ""


@dataclass(frozen=True, slots=True)
class Settled:
    """A worker's word that the store has taken its decision. `then` as in its log."""

    id: str
    token: int
    then: str


@dataclass(slots=True)
class Verdict:
    """What is wrong, by kind; and the numbers. `duplicates` are runs that ended well and did not count."""

    acknowledged: int = 0
    runs: int = 0
    duplicates: int = 0
    overlaps: int = 0
    wrong: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def lost(self) -> int:
        """Acknowledged tasks that have not ended."""
        return len(self.wrong.get("lost", ()))


def read_runs(lines: Iterable[str]) -> list[Run]:
    """What the handlers wrote, in the order of their tokens."""
    runs: dict[tuple[str, int], Run] = {}
    for line in lines:
        said = json.loads(line)
        key = said["id"], said["token"]
        if said["what"] == "began":
            runs[key] = Run(*key, said["pid"], said["wall"], said["monotonic"])
        else:
            runs[key] = replace(runs[key], ended=said["monotonic"], how=said["what"])
    return sorted(runs.values(), key=lambda run: run.token)


def read_settled(lines: Iterable[str]) -> list[Settled]:
    """What a worker's log (JSON, debug) says was recorded."""
    settled = []
    for line in lines:
        said = json.loads(line) if line.startswith("{") and line.endswith("}\n") else {}
        if said.get("msg") in ("attempt ended", "attempt failed"):
            settled.append(Settled(said["task_id"], said["token"], said["then"]))
    return settled


def judge(
    acknowledged: Collection[str],
    tasks: Mapping[str, Mapping[str, Any]],
    runs: Sequence[Run],
    settled: Sequence[Settled],
    *,
    deaths: Mapping[int, float],
) -> Verdict:
    """`tasks` are as the API shows them; `deaths` are when processes were gone, by pid, on the ledger's clock."""
    verdict = Verdict(len(set(acknowledged)), len(runs))
    for id in set(acknowledged):
        if id not in tasks or not tasks[id]["terminal"]:
            verdict.wrong["lost"].append(f"{id}: {tasks.get(id, {}).get('state', 'unknown')}")
    of_task: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        of_task[run.id].append(run)
    for id, its_runs in of_task.items():
        if id in tasks:
            _judge_runs(tasks[id], its_runs, deaths, verdict)
        else:
            verdict.wrong["ran, but was never stored"].append(id)
    _judge_settled(tasks, settled, verdict)
    return verdict


def _judge_runs(task: Mapping[str, Any], runs: Sequence[Run], deaths: Mapping[int, float], verdict: Verdict) -> None:
    for n, run in enumerate(runs):
        end = None if run.token == task["token"] else _attempt_of(run, task)
        if end is None and run.token != task["token"]:
            verdict.wrong["a run without a lease"].append(_told(run, task))
            continue
        lost = end is not None and end["outcome"] == "reaped"
        gone = deaths.get(run.pid, float("inf")) if run.ended is None else run.ended
        if any(later.began < gone for later in runs[n + 1 :]):
            verdict.overlaps += 1
            if not lost:
                verdict.wrong["two valid leases at a time"].append(_told(run, task))
        if run.how == "done" and end is not None:
            verdict.duplicates += 1
            if not lost:
                verdict.wrong["a duplicate without a lost lease"].append(_told(run, task))


def _attempt_of(run: Run, task: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The entry of the history that tells how this run's lease ended.

    A token is the server's time of the claim in microseconds. An attempt's start is that time as well, or the time of
    the answer to a repeated claim, if the first answer was lost.
    """
    claimed_ms, began_ms = run.token / 1000 - SLACK_MS, run.wall * 1000 + SLACK_MS
    for attempt in task["attempts"]:
        started_ms = datetime.fromisoformat(attempt["started_at"]).timestamp() * 1000
        if f":{run.pid}:" in attempt["worker_id"] and claimed_ms <= started_ms <= began_ms:
            return dict(attempt)
    return None


def _judge_settled(tasks: Mapping[str, Mapping[str, Any]], settled: Sequence[Settled], verdict: Verdict) -> None:
    of_token: dict[tuple[str, int], int] = defaultdict(int)
    for entry in settled:
        of_token[entry.id, entry.token] += 1
        if entry.then in FINAL and tasks.get(entry.id, {}).get("token") != entry.token:
            verdict.wrong["an end that did not stay"].append(str(entry))
    for key, times in of_token.items():
        if times > 1:
            verdict.wrong["a token that settled twice"].append(str(key))


def _told(run: Run, task: Mapping[str, Any]) -> str:
    return f"{run} of {task['id']} ({task['state']}, token {task['token']}): {list(task['attempts'])}"
