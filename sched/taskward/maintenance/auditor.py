"""The auditor: goes through the store slice by slice and checks that every task is in exactly one place."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import NamedTuple

from taskward.broker.broker import Broker
from taskward.errors import BrokerUnavailable
from taskward.events import Audited, Observer, Trouble
from taskward.maintenance.periodic import Tick

SLICE = 200
# What a pass reads: the hashes that hold tasks, and every place, so that an id without a task is found too.
_HASHES = ("spec", "record", "ended")
_PLACES = ("running", "done")
_FAMILIES = ("ready", "scheduled", "retry", "dead")
MOST_NAMED = 20
# What each finding means, for people.
KINDS = {
    "missing_spec": "something is kept of a task that is not there",
    "missing_place": "a task is in no queue, set or retention: it would never run",
    "two_places": "a task is in two places at once: it could run twice",
    "running_without_lease": "a task says that it runs, but no lease will ever expire",
    "stale_record": "a task's record tells of another place than the one it is in",
    "unknown_priority": "a task's priority is none of this process's PRIORITIES: here nobody can run or see it",
}


class Finding(NamedTuple):
    """One thing that is wrong. `done`: left, queued, kept or removed."""

    id: str
    kind: str
    done: str


def auditor(broker: Broker, observe: Observer, *, slices: int = 2) -> Tick:
    """Checks a few slices a tick, and tells the sums of the latest pass whenever one is complete."""
    findings: Counter[str] = Counter()
    walk = _slices(broker)

    def begin_anew() -> None:
        nonlocal walk
        findings.clear()
        walk = _slices(broker)

    async def tick() -> None:
        try:
            for _ in range(slices):
                found = await _judged(broker, await anext(walk), repair=True)
                findings.update(finding.kind for finding in found)
                if found:
                    observe(Trouble("auditor found what must not be", _said(found)))
        except StopAsyncIteration:
            observe(Audited({kind: findings[kind] for kind in KINDS}))
            begin_anew()
        except BrokerUnavailable:
            begin_anew()  # half a pass says nothing
            raise

    return tick


def _said(found: list[Finding]) -> dict[str, object]:
    return {"count": len(found), "findings": [finding._asdict() for finding in found[:MOST_NAMED]]}


async def audit(broker: Broker, *, repair: bool) -> tuple[int, list[Finding]]:
    """One whole pass, now. -> how many ids were looked at, and what is wrong. Raises BrokerUnavailable."""
    looked_at: set[str] = set()
    findings: dict[tuple[str, str], Finding] = {}
    async for ids in _slices(broker):
        looked_at.update(ids)
        for finding in await _judged(broker, ids, repair=repair):
            findings[finding.id, finding.kind] = finding
    return len(looked_at), list(findings.values())


async def _judged(broker: Broker, ids: list[str], *, repair: bool) -> list[Finding]:
    return [Finding(*found) for found in await broker.audit(ids, repair=repair)] if ids else []


async def _slices(broker: Broker) -> AsyncIterator[list[str]]:
    """Every id that any key holds; one in several keys comes several times."""
    keys = [("HSCAN", broker.keys(name)) for name in _HASHES] + [("ZSCAN", broker.keys(name)) for name in _PLACES]
    keys += [("ZSCAN", key) for family in _FAMILIES for key in broker.keys.family(family)]
    for command, key in keys:
        cursor = "0"
        while True:
            cursor, ids = await broker.scan(command, key, cursor, count=SLICE)
            yield ids
            if cursor == "0":
                break
