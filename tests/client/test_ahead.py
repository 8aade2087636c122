"""Parts made ahead."""

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from taskward.client.ahead import made_ahead, worked_ahead


async def numbers(made: list[int], *, end: int) -> AsyncIterator[int]:
    for n in range(end):
        await trio.lowlevel.checkpoint()
        made.append(n)
        yield n


async def test_the_parts_come_in_their_order(nursery: trio.Nursery) -> None:
    assert [n async for n in made_ahead(numbers([], end=10), nursery, most=1)] == list(range(10))


async def test_no_more_are_made_than_may_wait(nursery: trio.Nursery) -> None:
    made: list[int] = []
    parts = made_ahead(numbers(made, end=10), nursery, most=2)
    assert await anext(parts) == 0
    await trio.testing.wait_all_tasks_blocked()
    assert made == [0, 1, 2, 3]  # one is taken, two wait, one waits to wait
    nursery.cancel_scope.cancel()


async def test_an_error_ends_the_nursery() -> None:
    async def failing() -> AsyncIterator[int]:
        yield 0
        await trio.lowlevel.checkpoint()
        raise ValueError

    with pytest.RaisesGroup(ValueError):
        async with trio.open_nursery() as nursery:
            async for _ in made_ahead(failing(), nursery, most=1):
                pass
            await trio.sleep_forever()


async def test_what_is_worked_on_side_by_side_comes_in_order(nursery: trio.Nursery) -> None:
    now = most = 0
    three = trio.Event()

    async def work(n: int) -> str:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 3:
            three.set()
        await three.wait()
        now -= 1
        return str(n)

    worked = worked_ahead(numbers([], end=20), work, nursery, at_once=3)
    assert [value async for value in worked] == list(map(str, range(20)))
    assert most == 3


async def test_each_is_begun_before_the_next_is(nursery: trio.Nursery) -> None:
    begun: list[int] = []

    async def work(n: int) -> None:
        begun.append(n)
        await trio.lowlevel.checkpoint()

    async for _ in worked_ahead(numbers([], end=50), work, nursery, at_once=2):
        pass
    assert begun == list(range(50))


async def test_an_error_of_the_work_ends_the_nursery_too() -> None:
    async def work(n: int) -> None:
        raise ValueError(n)

    with pytest.RaisesGroup(ValueError):
        async with trio.open_nursery() as nursery:
            async for _ in worked_ahead(numbers([], end=3), work, nursery, at_once=2):
                pass
            await trio.sleep_forever()
