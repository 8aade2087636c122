"""Answers in parts, made ahead of a client that does not read yet: many do not while they send."""

from collections.abc import AsyncIterator

import trio
from quart import Response

from taskward.api.render import NDJSON

# Parts that wait to be read. Beyond them the maker waits too: a client must read while it sends.
MOST_AHEAD = 256


def respond_stream(parts: AsyncIterator[bytes], exchange: trio.Nursery) -> Response:
    """NDJSON as it comes; it may take as long as it likes. The parts are made in `exchange`, which ends with it."""
    send, receive = trio.open_memory_channel[bytes](MOST_AHEAD)
    exchange.start_soon(_make, parts, send)
    response = Response(_taken(receive), 200, content_type=NDJSON)
    response.timeout = None
    return response


async def _make(parts: AsyncIterator[bytes], send: trio.MemorySendChannel[bytes]) -> None:
    async with send:
        async for part in parts:
            await send.send(part)


async def _taken(receive: trio.MemoryReceiveChannel[bytes]) -> AsyncIterator[bytes]:
    async for part in receive:
        yield part
