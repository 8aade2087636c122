"""Answers in parts, made ahead of a client that does not read yet: many do not while they send."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType

import trio
from quart import Response
from quart.wrappers.response import ResponseBody

from taskward.api.render import NDJSON

# Parts that wait to be read. Beyond them the maker waits too: a client must read while it sends.
MOST_AHEAD = 256


def respond_stream(parts: AsyncIterator[bytes]) -> Response:
    """NDJSON as it comes; it may take as long as it likes."""
    response = Response(_Ahead(parts), 200, content_type=NDJSON)
    response.timeout = None
    return response


class _Ahead(ResponseBody):
    """Quart enters it when it begins to send, and leaves it at the end or when the client has left."""

    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        self._making = _made_ahead(parts)

    async def __aenter__(self) -> AsyncIterator[bytes]:
        return await self._making.__aenter__()

    async def __aexit__(self, kind: type[BaseException], error: BaseException, trace: TracebackType) -> None:
        await self._making.__aexit__(kind, error, trace)  # noqa: ASYNC102 - it only cancels a nursery


@asynccontextmanager
async def _made_ahead(parts: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    send, receive = trio.open_memory_channel[bytes](MOST_AHEAD)

    async def make() -> None:
        async with send:
            async for part in parts:
                await send.send(part)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(make)
        yield receive
        nursery.cancel_scope.cancel()
