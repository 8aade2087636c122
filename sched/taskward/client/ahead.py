"""Parts made ahead of whoever works on them: while the store has one, the next is parsed."""

from collections.abc import AsyncIterator
from typing import TypeVar

import trio

# Of the scheduler, until a part that was taken is on its way; with one, a stream was measured to be a tenth slower.
PASSES = 2


Part = TypeVar("Part")


def made_ahead(parts: AsyncIterator[Part], nursery: trio.Nursery, *, most: int) -> AsyncIterator[Part]:
    """The same parts, made by a Trio task in `nursery`, which must end with the work; `most` wait to be taken.

    What `parts` raises ends the nursery.
    """
    send, receive = trio.open_memory_channel[Part](most)
    nursery.start_soon(_make, parts, send)
    return _taken(receive)


async def _make(parts: AsyncIterator[Part], send: trio.MemorySendChannel[Part]) -> None:
    async with send:
        async for part in parts:
            await send.send(part)
            # Making the next may hold up the loop: what was taken has to be on its way before.
            for _ in range(PASSES):
                await trio.lowlevel.checkpoint()


async def _taken(receive: trio.MemoryReceiveChannel[Part]) -> AsyncIterator[Part]:
    async for part in receive:
        yield part
