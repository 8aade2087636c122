"""Parts made ahead of whoever works on them, and worked on side by side, in their order."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

import trio

# Of the scheduler, until a part that was taken is on its way; with one, a stream was measured to be a tenth slower.
PASSES = 2

Part = TypeVar("Part")
Value = TypeVar("Value")


def made_ahead(parts: AsyncIterator[Part], nursery: trio.Nursery, *, most: int) -> AsyncIterator[Part]:
    """The same parts, made by a Trio task in `nursery`, which must end with the work; `most` wait to be taken.

    What `parts` raises ends the nursery.
    """
    send, receive = trio.open_memory_channel[Part](most)
    nursery.start_soon(_make, parts, send)
    return receive


def worked_ahead(
    parts: AsyncIterator[Part], work: Callable[[Part], Awaitable[Value]], nursery: trio.Nursery, *, at_once: int
) -> AsyncIterator[Value]:
    """What `work` makes of the parts, begun and answered in their order; each has a Trio task in `nursery`.

    What `parts` or `work` raises ends the nursery.
    """
    send, receive = trio.open_memory_channel[_UnderWay[Value]](at_once - 1)
    nursery.start_soon(_begin, parts, work, nursery, send)
    return _done(receive)


class _UnderWay(Generic[Value]):
    """`value` is there once it is done."""

    value: Value

    def __init__(self) -> None:
        self.done = trio.Event()


async def _begin(
    parts: AsyncIterator[Part],
    work: Callable[[Part], Awaitable[Value]],
    nursery: trio.Nursery,
    send: "trio.MemorySendChannel[_UnderWay[Value]]",
) -> None:
    async def do(part: Part, under_way: _UnderWay[Value]) -> None:
        under_way.value = await work(part)
        under_way.done.set()

    async with send:
        async for part in parts:
            under_way = _UnderWay[Value]()
            await send.send(under_way)
            nursery.start_soon(do, part, under_way)
            await let_go()


async def _done(receive: "trio.MemoryReceiveChannel[_UnderWay[Value]]") -> AsyncIterator[Value]:
    async for under_way in receive:
        await under_way.done.wait()
        yield under_way.value


async def _make(parts: AsyncIterator[Part], send: trio.MemorySendChannel[Part]) -> None:
    async with send:
        async for part in parts:
            await send.send(part)
            await let_go()


async def let_go() -> None:
    """Yield to the scheduler before CPU-bound work, so that requests already handed to other Trio tasks are sent
    first.
    """
    for _ in range(PASSES):
        await trio.lowlevel.checkpoint()
