"""The store against its model: equal after every verb, in every story that Hypothesis makes up."""

import itertools
from collections import Counter
from functools import partial

import redis
import trio
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from taskward.broker.connection import Connection
from tests.model.draws import TERMS
from tests.model.stories import Machine
from tests.support.rig import Rig

_numbers = itertools.count()


async def explore(
    connection: Connection, client: "redis.Redis", *, examples: int, steps: int, seeded: bool
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
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
    )
    await trio.to_thread.run_sync(partial(run_state_machine_as_test, begin, settings=how))
    return counts


async def test_the_store_is_as_the_model_says(connection: Connection, client: "redis.Redis") -> None:
    counts = await explore(connection, client, examples=250, steps=30, seeded=True)
    for what, n in sorted(counts.items()):
        print(f"{n:7} {what}")
