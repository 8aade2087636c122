"""Outage: one line when it begins, one when it ends, and calm in between."""

import trio
from trio.testing import MockClock

from taskward.broker.outage import LONGEST_PAUSE, Outage
from taskward.errors import BrokerUnavailable
from taskward.events import Event, OutageBegan, OutageEnded


async def test_it_is_said_once(autojump_clock: MockClock) -> None:
    seen: list[Event] = []
    outage = Outage("reaper", seen.append)
    outage.over()
    assert seen == []
    began = trio.current_time()
    for _ in range(5):
        await outage.sit_out(BrokerUnavailable("gone"))
    lasted = trio.current_time() - began
    outage.over()
    outage.over()
    assert seen == [OutageBegan("reaper", "gone"), OutageEnded("reaper", lasted)]
    await outage.sit_out(BrokerUnavailable("gone again"))
    assert seen[2:] == [OutageBegan("reaper", "gone again")]


async def test_the_pause_grows_to_a_bound_and_starts_over(autojump_clock: MockClock) -> None:
    outage = Outage("reaper", lambda event: None)

    async def pause() -> float:
        began = trio.current_time()
        await outage.sit_out(BrokerUnavailable())
        return trio.current_time() - began

    pauses = [await pause() for _ in range(20)]
    assert pauses[0] <= 0.05
    assert all(LONGEST_PAUSE / 2 <= p <= LONGEST_PAUSE for p in pauses[10:])
    assert len(set(pauses[10:])) > 1  # not all processes at the same moment
    outage.over()
    assert await pause() <= 0.05
