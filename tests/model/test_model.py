"""The store against its model: equal after every verb, in every story that Hypothesis makes up."""

import itertools
import os
from collections import Counter
from functools import partial
from typing import Any

import pytest
import redis
import trio
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from taskward.broker.connection import Connection
from tests.model.draws import TERMS
from tests.model.stories import Machine, tell_every_end
from tests.support.rig import Rig

_numbers = itertools.count()


async def explore(
    connection: Connection, client: "redis.Redis", *, examples: int, steps: int, seeded: bool, shrink: bool = True
) -> Counter[str]:
    """Run the machine. -> what happened how often. `seeded`: the same stories every time."""
    counts: Counter[str] = Counter()

    def begin() -> Machine:
        rig = Rig(connection, client, queue=f"model-{next(_numbers)}", **TERMS._asdict())
        return Machine(rig, counts)

    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=seeded,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        print_blob=False,
    )
    await trio.to_thread.run_sync(tell_every_end, begin())
    machines: Any = begin  # a factory is as good as a class
    await trio.to_thread.run_sync(partial(run_state_machine_as_test, machines, settings=how))
    return counts


# What must have happened in the seeded stories, and how often at least: a model that never saw it proves nothing.
FLOORS = {
    "new -> queued": 200,
    "new -> scheduled": 50,
    "scheduled -> queued": 3,
    "scheduled -> running": 20,
    "scheduled -> cancelled": 5,
    "scheduled -> expired": 3,
    "queued -> running": 300,
    "queued -> cancelled": 5,
    "queued -> expired": 10,
    "running -> succeeded": 50,
    "running -> retrying": 50,
    "running -> queued": 100,
    "running -> dead": 50,
    "running -> cancelling": 50,
    "running -> cancelled": 1,
    "cancelling -> cancelled": 20,
    "cancelling -> succeeded": 5,
    "cancelling -> dead": 1,
    "retrying -> queued": 1,
    "retrying -> running": 50,
    "retrying -> cancelled": 2,
    "dead -> queued": 30,
    "succeeded -> gone": 10,
    "dead -> gone": 10,
    "cancelled -> gone": 20,
    "expired -> gone": 10,
    "reaped queued": 100,
    "reaped retrying": 50,
    "reaped dead": 30,
    "reaped cancelled": 10,
    "verdict !": 100,
    "verdict =": 20,
    "verdict S": 30,
    "verdict T": 10,
    "verdict D": 20,
    "verdict C": 5,
    "verdict Q": 30,
    "extend !": 50,
    "extend renewed": 50,
    "extend user": 10,
    "progress True": 5,
    "progress False": 5,
    "claims repeated": 2,
    "claims overtaken": 50,
    "submitted replay": 20,
    "submitted conflict": 20,
    "submitted full": 20,
}


async def test_the_store_is_as_the_model_says(connection: Connection, client: "redis.Redis") -> None:
    counts = await explore(connection, client, examples=200, steps=30, seeded=True)
    seldom = {what: counts[what] for what, least in FLOORS.items() if counts[what] < least}
    assert not seldom


@pytest.mark.slow
async def test_in_many_more_stories(connection: Connection, client: "redis.Redis") -> None:
    """Other ones at every run. TASKWARD_TORTURE multiplies them."""
    examples = 2000 * int(os.environ.get("TASKWARD_TORTURE", "1"))
    await explore(connection, client, examples=examples, steps=60, seeded=False)
