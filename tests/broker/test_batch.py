"""Batcher: what many want at once goes out together, in order, patiently, and no caller can spoil it for another."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from taskward.broker.batch import Batcher
from taskward.errors import BrokerUnavailable, Conflict, TaskwardError


class Flush:
    """Doubles numbers, one call at a time; holds each call until `go`, fails it as told."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.failures: list[Exception] = []
        self.go = trio.Event()
        self.go.set()

    async def __call__(self, items: list[int]) -> list[int]:
        self.calls.append(items)
        await self.go.wait()
        if self.failures:
            raise self.failures.pop(0)
        return [2 * item for item in items]


@pytest.fixture
def flush() -> Flush:
    return Flush()


@pytest.fixture
def batcher(flush: Flush, nursery: trio.Nursery) -> Batcher[int, int]:
    batcher: Batcher[int, int] = Batcher(flush, most=3, patience=1.0, waiting=5)
    nursery.start_soon(batcher.run)
    return batcher


async def _ask(batcher: Batcher[int, int], item: int, answers: dict[int, object]) -> None:
    try:
        answers[item] = await batcher(item)
    except TaskwardError as exc:
        answers[item] = exc


async def test_one_item_goes_at_once(batcher: Batcher[int, int], flush: Flush) -> None:
    assert await batcher(21) == 42
    assert flush.calls == [[21]]


async def test_what_arrives_meanwhile_goes_together(
    batcher: Batcher[int, int], flush: Flush, nursery: trio.Nursery
) -> None:
    flush.go = trio.Event()
    answers: dict[int, object] = {}
    nursery.start_soon(_ask, batcher, 1, answers)
    await wait_all_tasks_blocked()
    for item in (2, 3, 4, 5, 6):
        nursery.start_soon(_ask, batcher, item, answers)
        await wait_all_tasks_blocked()
    assert flush.calls == [[1]]
    flush.go.set()
    await wait_all_tasks_blocked()
    assert flush.calls == [[1], [2, 3, 4], [5, 6]]
    assert answers == {n: 2 * n for n in range(1, 7)}


async def test_a_caller_that_is_cancelled_disturbs_nothing(
    batcher: Batcher[int, int], flush: Flush, nursery: trio.Nursery
) -> None:
    flush.go = trio.Event()
    answers: dict[int, object] = {}
    nursery.start_soon(_ask, batcher, 1, answers)
    await wait_all_tasks_blocked()
    scopes = []
    for item in (2, 3):
        scopes.append(await nursery.start(_ask_in_scope, batcher, item, answers))
        await wait_all_tasks_blocked()
    scopes[0].cancel()
    flush.go.set()
    await wait_all_tasks_blocked()
    assert flush.calls == [[1], [2, 3]]  # what was handed in is sent
    assert answers == {1: 2, 3: 6}
    assert await batcher(4) == 8


async def _ask_in_scope(
    batcher: Batcher[int, int], item: int, answers: dict[int, object], *, task_status: trio.TaskStatus[trio.CancelScope]
) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await _ask(batcher, item, answers)


async def test_a_caller_cancelled_during_its_own_call(
    batcher: Batcher[int, int], flush: Flush, nursery: trio.Nursery
) -> None:
    flush.go = trio.Event()
    answers: dict[int, object] = {}
    scope = await nursery.start(_ask_in_scope, batcher, 1, answers)
    await wait_all_tasks_blocked()
    scope.cancel()
    await wait_all_tasks_blocked()
    flush.go.set()
    assert await batcher(2) == 4
    assert flush.calls == [[1], [2]]
    assert answers == {}


async def test_a_lost_reply_is_asked_for_again_with_the_same_items(
    batcher: Batcher[int, int], flush: Flush, autojump_clock: MockClock
) -> None:
    flush.failures = [BrokerUnavailable(), BrokerUnavailable()]
    assert await batcher(1) == 2
    assert flush.calls == [[1]] * 3


async def test_patience_ends(batcher: Batcher[int, int], flush: Flush, autojump_clock: MockClock) -> None:
    flush.failures = [BrokerUnavailable("gone") for _ in range(100)]
    began = trio.current_time()
    with pytest.raises(BrokerUnavailable, match="gone"):
        await batcher(1)
    assert 0.4 <= trio.current_time() - began <= 1.0
    assert 3 < len(flush.calls) < 12
    flush.failures = []
    assert await batcher(2) == 4


async def test_another_error_is_every_callers_and_ends_nothing(
    batcher: Batcher[int, int], flush: Flush, nursery: trio.Nursery
) -> None:
    flush.go = trio.Event()
    answers: dict[int, object] = {}
    flush.failures = [Conflict("one"), Conflict("two")]
    for item in (1, 2, 3):
        nursery.start_soon(_ask, batcher, item, answers)
        await wait_all_tasks_blocked()
    flush.go.set()
    await wait_all_tasks_blocked()
    assert {item: str(answer) for item, answer in answers.items()} == {1: "one", 2: "two", 3: "two"}
    assert await batcher(4) == 8


async def test_too_many_waiting_is_said_at_once(
    batcher: Batcher[int, int], flush: Flush, nursery: trio.Nursery
) -> None:
    flush.go = trio.Event()
    answers: dict[int, object] = {}
    for item in range(6):
        nursery.start_soon(_ask, batcher, item, answers)
        await wait_all_tasks_blocked()
    with pytest.raises(BrokerUnavailable, match="too many"):
        await batcher(99)
    flush.go.set()
    await wait_all_tasks_blocked()
    assert answers == {n: 2 * n for n in range(6)}


@pytest.mark.parametrize("answer", [lambda items: items[:-1], lambda items: [*items, 0]])
async def test_an_answer_of_another_length_is_a_bug_and_stops_the_process(
    answer: Callable[[list[int]], list[int]],
) -> None:
    async def flush(items: list[int]) -> list[int]:
        return answer(items)

    batcher: Batcher[int, int] = Batcher(flush, most=3, patience=1.0)
    with pytest.RaisesGroup(ValueError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(batcher.run)
            await batcher(1)
