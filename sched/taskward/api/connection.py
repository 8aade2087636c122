"""One HTTP exchange between hypercorn and the app: a body read at the reader's pace, and a clean end."""

import math
from collections.abc import AsyncIterator
from typing import Any

import trio
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers.request import TrioRequest
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

# What is taken from the socket before anybody asked for it, or while a stream's reader is busy.
BUFFER_BYTES = 262_144
BODY_SECONDS = 30.0
STREAM_IDLE_SECONDS = 60.0
LINGER_SECONDS = 1.0


class RequestBody:
    """The body of one request. The connection `put`s, the route `read`s it whole or goes through its `chunks`."""

    def __init__(self, expected: int | None, _most: int | None) -> None:
        self._expected = expected
        self._buffer = bytearray()
        self._room: float = BUFFER_BYTES
        self._wanted = True
        self._complete = False
        self._changed = trio.Event()

    async def put(self, data: bytes, *, last: bool) -> None:
        """Add what arrived, then wait while there is more than the reader takes: the client has to wait too."""
        if self._wanted:
            self._buffer += data
        self._complete = last
        self._change()
        while len(self._buffer) > self._room and not self._complete:
            await self._changed.wait()

    async def read(self, most: int) -> bytes:
        """All of it. Raises RequestEntityTooLarge as soon as it is known to be too long, RequestTimeout."""
        self._room = most
        self._change()
        with trio.move_on_after(BODY_SECONDS):
            while not self._complete and len(self._buffer) <= most and (self._expected or 0) <= most:
                await self._changed.wait()
        if len(self._buffer) > most or (self._expected or 0) > most:
            raise RequestEntityTooLarge(f"the body is longer than {most} bytes")
        if not self._complete:
            raise RequestTimeout
        return bytes(self._buffer)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Whatever has arrived since the last chunk, until the end. Raises RequestTimeout where nothing comes."""
        while True:
            with trio.move_on_after(STREAM_IDLE_SECONDS):
                while not self._buffer and not self._complete:
                    await self._changed.wait()
            if not self._buffer:
                if self._complete:
                    return
                raise RequestTimeout
            data = bytes(self._buffer)
            self._buffer.clear()
            self._change()
            yield data

    async def drain(self) -> None:
        """Let the client finish, for a moment: closing while it still sends would reset the connection, and it would
        never read the answer.
        """
        self._wanted = False
        self._buffer.clear()
        self._room = math.inf
        self._change()
        with trio.move_on_after(LINGER_SECONDS):
            while not self._complete:
                await self._changed.wait()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class HttpRequest(TrioRequest):
    """A request whose body waits to be read. `nursery` lives until the response is out, or the client has left."""

    nursery: trio.Nursery

    body_class = RequestBody  # type: ignore[assignment] # `body` is used by the two classes of this module alone


class HttpConnection(TrioASGIHTTPConnection):
    """quart-trio's exchange, with its two faults mended (tests/api/test_connection.py watches them).

    It takes a request's body into memory as fast as it comes; and hypercorn is cancelled in the middle of ending a
    response, because it says "disconnect" when the last byte is out and quart-trio then cancels who sent it. After
    that a connection is neither closed nor ever timed out.
    """

    async def handle_messages(self, nursery: trio.Nursery, request: Any, receive: Any) -> None:  # type: ignore[override]
        """Feed the body until the client leaves or the response is out."""
        while (message := await receive())["type"] == "http.request":
            await request.body.put(message.get("body", b""), last=not message.get("more_body", False))
        nursery.cancel_scope.cancel()

    async def handle_request(self, nursery: trio.Nursery, request: Any, send: Any) -> None:  # type: ignore[override]
        """Run the route and send its response."""
        request.nursery = nursery

        async def send_undisturbed(message: Any) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                await request.body.drain()
            with trio.CancelScope(shield=True):  # hypercorn bounds it: its own send is shielded anyway
                await send(message)

        await super().handle_request(nursery, request, send_undisturbed)
