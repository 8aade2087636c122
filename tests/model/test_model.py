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
from tests.model.stories import Machine, tell_the_rare
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
    await trio.to_thread.run_sync(tell_the_rare, begin())
    machines: Any = begin  # a factory is as good as a class
    await trio.to_thread.run_sync(partial(run_state_machine_as_test, machines, settings=how))
    return counts


# What must have happened in the seeded stories, often or at all: a model that never saw it proves nothing about it.
OFTEN = (
    "new -> queued",
    "new -> scheduled",
    "scheduled -> running",
    "queued -> running",
    "running -> succeeded",
    "running -> retrying",
    "running -> queued",
    "running -> dead",
    "running -> cancelling",
    "cancelling -> cancelled",
    "retrying -> running",
    "dead -> queued",
    "succeeded -> gone",
    "cancelled -> gone",
    "reaped queued",
    "reaped retrying",
    "reaped dead",
    "reaped cancelled",
    "reaping held back",
    "verdict !",
    "verdict =",
    "verdict S",
    "verdict T",
    "verdict D",
    "verdict Q",
    "extend !",
    "extend renewed",
    "extend user",
    "claims repeated",
    "claims overtaken",
    "submitted replay",
    "submitted conflict",
    "submitted full",
)
AT_ALL = (
    "scheduled -> queued",
    "scheduled -> cancelled",
    "scheduled -> expired",
    "queued -> cancelled",
    "queued -> expired",
    "running -> cancelled",
    "cancelling -> succeeded",
    "cancelling -> dead",
    "retrying -> queued",
    "retrying -> cancelled",
    "dead -> gone",
    "expired -> gone",
    "verdict C",
    "progress True",
    "progress False",
)


async def test_the_store_is_as_the_model_says(connection: Connection, client: "redis.Redis") -> None:
    counts = await explore(connection, client, examples=150, steps=30, seeded=True)
    assert not {what: counts[what] for what in OFTEN if counts[what] < 5}
    assert not [what for what in AT_ALL if not counts[what]]


@pytest.mark.slow
async def test_in_many_more_stories(connection: Connection, client: "redis.Redis") -> None:
    """Other ones at every run. TASKWARD_TORTURE multiplies them."""
    examples = 2000 * int(os.environ.get("TASKWARD_TORTURE", "1"))
    await explore(connection, client, examples=examples, steps=60, seeded=False)
