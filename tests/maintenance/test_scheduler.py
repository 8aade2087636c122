"""The scheduler: each firing is one task, whoever submits it, and however often nobody could."""

from collections.abc import Callable
from typing import Any

import pytest

from taskward import App
from taskward.broker.broker import Broker
from taskward.client.gateway import Gateway
from taskward.errors import BrokerUnavailable, ConfigError
from taskward.events import Event, TasksSubmitted, ignore
from taskward.maintenance.scheduler import Scheduler
from taskward.submission import Limits
from tests.support.clock import START_US
from tests.support.rig import PRIORITIES, Rig

LIMITS = Limits(PRIORITIES, "low", 1000)
MINUTE_MS = 60_000
KEPT_MS = 60 * MINUTE_MS
# The clock of a rig stands at 20 seconds past a minute: the next one begins in 40.
NEXT_MS = START_US // 1000 + 40_000

Make = Callable[..., Scheduler]


@pytest.fixture
def worker(rig: Rig) -> Make:
    """The scheduler of one more worker, with one schedule: every minute unless another is asked for."""

    def make(
        cron: str = "* * * * *", *, broker: Broker | None = None, observe: Any = ignore, **fields: Any
    ) -> Scheduler:
        app = App()
        app.schedule("beat", cron, fields.pop("type", "pulse"), **fields)
        broker = broker or rig.broker
        gateway = Gateway(broker, observe=observe)
        return Scheduler(list(app.schedules.values()), broker=broker, gateway=gateway, limits=LIMITS, kept_ms=KEPT_MS)

    return make


def minutes(rig: Rig) -> list[int]:
    """The tasks in the store, by the minute they are for, counted from the first."""
    tasks = rig.store["scheduled:low"] | {id: us / 1000 for id, us in rig.store["ready:low"].items()}
    return sorted(int(due - NEXT_MS) // MINUTE_MS for due in tasks.values())


async def test_a_firing_is_in_the_store_before_it_is_due(rig: Rig, worker: Make) -> None:
    await worker(payload={"n": 1}, tags=("a",)).tick()
    assert rig.store["scheduled:low"] == {"beat-20231114T221400Z": NEXT_MS}
    rig.clock.move(ms=40_000)
    [lease] = await rig.claim()
    assert (lease.id, lease.spec.type, lease.spec.payload, lease.spec.tags) == (
        "beat-20231114T221400Z",
        "pulse",
        {"n": 1},
        ("a",),
    )


async def test_each_is_one_task_however_many_workers_there_are(rig: Rig, worker: Make) -> None:
    workers = [worker() for _ in range(3)]
    for second in range(600):
        await workers[second % 3].tick()
        rig.clock.move(ms=1000)
    assert minutes(rig) == list(range(11))


async def test_one_that_has_run_does_not_come_again(rig: Rig, worker: Make) -> None:
    await worker().tick()
    rig.clock.move(ms=40_000)
    [lease] = await rig.claim()
    await worker().tick()  # of a worker that has started just now
    assert minutes(rig) == [1]
    assert lease.id in rig.store["record"]


async def test_of_those_that_nobody_could_submit_in_time_the_last_is(rig: Rig, worker: Make) -> None:
    alone = worker()
    await alone.tick()
    rig.clock.move(ms=10 * MINUTE_MS)
    await alone.tick()
    assert minutes(rig) == [0, 9, 10]


async def test_one_that_may_have_run_and_been_forgotten_does_not_come_again(rig: Rig, worker: Make) -> None:
    stopped = worker("0 * * * *")  # at 23:00, and it stands still from 22:13 on
    await stopped.tick()
    rig.clock.move(ms=46 * MINUTE_MS)
    other = worker("0 * * * *")
    await other.tick()
    assert len(minutes(rig)) == 1
    rig.store.clear()  # as if it had run, and its retention had passed
    rig.clock.move(ms=KEPT_MS)
    await stopped.tick()
    assert minutes(rig) == [106]  # midnight, and not eleven


async def test_one_that_was_missed_while_no_worker_ran_comes_within_its_grace(rig: Rig, worker: Make) -> None:
    await worker(misfire_grace_seconds=20).tick()  # the last was due 20 seconds ago: too late by a hair
    assert minutes(rig) == [0]
    rig.clock.move(ms=10 * MINUTE_MS)
    await worker(misfire_grace_seconds=60).tick()
    assert minutes(rig) == [0, 9, 10]


async def test_one_that_has_run_is_not_missed(rig: Rig, worker: Make) -> None:
    await worker().tick()
    rig.clock.move(ms=40_000)
    await rig.claim()
    await worker(misfire_grace_seconds=30).tick()
    assert minutes(rig) == [1]


async def test_one_that_there_is_no_room_for_waits(rig: Rig, worker: Make) -> None:
    full = worker(broker=rig.broker_with(max_queue_depth=1))
    await rig.submit("other", priority="low")
    await full.tick()
    assert rig.store["scheduled:low"] == {}
    await rig.claim()
    await full.tick()
    assert minutes(rig) == [0]


async def test_an_outage_is_told_and_nothing_is_skipped(
    rig: Rig, worker: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = worker()
    monkeypatch.setattr("taskward.client.gateway.PATIENCE_SECONDS", 0)
    with monkeypatch.context() as patched:

        async def gone(*_: Any, **__: Any) -> Any:
            raise BrokerUnavailable

        patched.setattr(rig.broker, "store", gone)
        with pytest.raises(BrokerUnavailable):
            await alone.tick()
    await alone.tick()
    assert minutes(rig) == [0]


async def test_it_tells_what_it_has_submitted(rig: Rig, worker: Make) -> None:
    told: list[Event] = []
    for _ in range(2):
        await worker(observe=told.append, priority="high").tick()
    counts = [(event.priority, event.created, event.duplicates) for event in told if isinstance(event, TasksSubmitted)]
    assert counts == [("high", 1, 0), ("high", 0, 1)]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"priority": "urgent"}, "schedule 'beat': /priority: one of high, low"),
        ({"payload": {1, 2}}, "schedule 'beat': .*JSON"),
        ({"payload": "x" * 2000}, "schedule 'beat': .*longer"),
        ({"type": "two words"}, "schedule 'beat': /type"),
    ],
)
async def test_tasks_that_would_be_refused_stop_the_start(worker: Make, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        worker(**fields)
