"""One torture: a system under a plan of faults for a while, and the verdict over what came of it."""

import json
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from tests.torture.arena import Arena
from tests.torture.ledger import Verdict, judge, read_runs, read_settled
from tests.torture.plan import draw

CLIENTS = 6
DIRECT_PAUSE_SECONDS = 1.0
# After the last fault: how soon every client must be answered, and every task be done.
RECOVERY_SECONDS = 60.0
REPAIRED = '"auditor found what must not be"'
# Killed, told to stop before it could hear, stopped, and left its handlers behind. Anything else is a crash.
EXITS = {"worker": {-9, -15, 0, 70}, "api": {-9, -15, 0}}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict, and what was done to deserve it."""

    seed: int
    verdict: Verdict
    faults: Counter[str]
    ends: Counter[str]
    leases_lost: int

    def __str__(self) -> str:
        v = self.verdict
        faults, ends = json.dumps(dict(sorted(self.faults.items()))), json.dumps(self.ends)
        return (
            f"seed {self.seed}: {v.acknowledged} acknowledged, {v.lost} lost, {v.runs} runs, "
            f"{v.duplicates} duplicates, {v.overlaps} overlaps, {self.leases_lost} leases lost, "
            f"{self.faults.total()} faults {faults}, ends {ends}"
        )


async def torture(folder: Path, *, seed: int, seconds: float, pause: float = 0.1) -> Outcome:
    """Everything it leaves is in `folder`: the data, the logs and the ledger. `pause` is a client's between tasks."""
    arena = Arena(folder)
    try:
        async with trio.open_nursery() as lines:
            async with trio.open_nursery() as parts:
                await arena.start(lines, parts)
                await _act(arena, seed=seed, seconds=seconds, pause=pause)
                with trio.fail_after(RECOVERY_SECONDS):
                    tasks, findings = await arena.settle_down()
                parts.cancel_scope.deadline = trio.current_time() + RECOVERY_SECONDS
            lines.cancel_scope.cancel()
    finally:
        arena.server.close()
    return _outcome(arena, seed, tasks, findings)


async def _act(arena: Arena, *, seed: int, seconds: float, pause: float) -> None:
    enough = trio.Event()
    async with trio.open_nursery() as clients:
        for client in range(CLIENTS):

            async def ask(client: int = client) -> None:
                await arena.ask(client, seed=seed, until=enough, pause=pause)

            clients.start_soon(ask)
        clients.start_soon(partial(arena.ask_directly, seed=seed, until=enough, pause=DIRECT_PAUSE_SECONDS))
        await arena.suffer(draw(seed, seconds))
        enough.set()
        clients.cancel_scope.deadline = trio.current_time() + RECOVERY_SECONDS
    assert not clients.cancel_scope.cancelled_caught, f"seed {seed}: clients are not answered any more"


def _outcome(arena: Arena, seed: int, tasks: dict[str, dict[str, Any]], findings: list[str]) -> Outcome:
    logs = {key: part.log.read_text(errors="replace").splitlines(keepends=True) for key, part in arena.parts.items()}
    settled = [entry for log in logs.values() for entry in read_settled(log)]
    runs = read_runs(arena.ledger.read_text().splitlines()) if arena.ledger.exists() else []
    verdict = judge(arena.acknowledged, tasks, runs, settled, deaths=arena.deaths)
    verdict.wrong["the books do not balance"] += findings
    for (name, number), part in arena.parts.items():
        log = logs[name, number]
        verdict.wrong["a crash"] += [f"{name} {number}: {code}" for code in part.exits if code not in EXITS[name]]
        verdict.wrong["an auditor had to repair"] += [line for line in log if REPAIRED in line]
        verdict.wrong["a traceback"] += [f"{name} {number}: {line}" for line in log if "Traceback (most recent" in line]
    verdict.wrong = {kind: found for kind, found in verdict.wrong.items() if found}
    reaped = sum(attempt["outcome"] == "reaped" for task in tasks.values() for attempt in task["attempts"])
    return Outcome(seed, verdict, arena.done, Counter(task["state"] for task in tasks.values()), reaped)
