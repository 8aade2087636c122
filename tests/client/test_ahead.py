"""Parts made ahead."""

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from taskward.client.ahead import made_ahead


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
