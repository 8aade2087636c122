"""The front door: accepts connections, lets the fast lane look first, and gives the rest to hypercorn's server.

This is hypercorn.trio.run.worker_serve for the one case we have (one socket, no TLS, no lifespan), with a look first,
and HTTP/1.1 alone.
"""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import h11
import trio
from hypercorn.config import Config as Settings
from hypercorn.events import Closed, Event
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState

from taskward.api.fast_lane import Turn, drive
from taskward.api.service import Service

SWEEP_SECONDS = 0.25
GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class FrontDoor:
    """`app` is what hypercorn runs; `service` is what the fast lane works with."""

    def __init__(self, app: AppWrapper, service: Service, settings: Settings) -> None:
        self._app = app
        self._service = service
        self._settings = settings
        self._context = WorkerContext(None)
        self._turns: set[Turn] = set()
        self._stopping = False

    async def serve(self, listener: trio.SocketListener, *, stop: trio.Event, grace: float) -> None:
        """Serve until `stop`, then let what is under way finish for `grace` seconds."""
        async with trio.open_nursery() as sweeping:
            sweeping.start_soon(self._sweep)
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(
                        partial(trio.serve_listeners, self._handle, [listener], handler_nursery=connections)
                    )
                    await stop.wait()
                    accepting.cancel_scope.cancel()
                await self._close_idle()
                connections.cancel_scope.deadline = trio.current_time() + grace
            sweeping.cancel_scope.cancel()

    async def _close_idle(self) -> None:
        self._stopping = True
        await self._context.terminated.set()
        for turn in self._turns:
            if turn.idle:
                turn.scope.cancel()

    async def _sweep(self) -> None:
        """One look at all connections now and then is cheaper than a deadline a request."""
        while True:
            await trio.sleep(SWEEP_SECONDS)
            now = trio.current_time()
            for turn in self._turns:
                if turn.until < now:
                    turn.scope.cancel()

    async def _handle(self, stream: trio.SocketStream) -> None:
        turn = Turn(self._settings.keep_alive_timeout)
        self._turns.add(turn)
        rest = None
        try:
            with turn.scope:
                rest = await drive(stream, self._service, turn, stopping=lambda: self._stopping)
        except GONE:
            rest = None
        finally:
            self._turns.remove(turn)
        if rest is None:
            await trio.aclose_forcefully(stream)
        else:
            server: Callable[..., Any] = _Server
            await server(self._app, self._settings, self._context, ConnectionState({}), _Replayed(stream, rest)).run()


class _Refused(Exception):
    """A request that must not be answered as it stands."""


class _Http1(H11Protocol):
    """Hypercorn's HTTP/1.1, strict where hypercorn is not: a request with a length *and* chunks is refused, because a
    proxy before us may see its end elsewhere (RFC 9112, 6.1), and nobody gets to HTTP/2, by upgrade or by assumption.
    """

    async def handle(self, event: Event) -> None:
        """What hypercorn's server calls with whatever arrives."""
        try:
            await super().handle(event)
        except _Refused:
            await self._send_error_response(HTTPStatus.BAD_REQUEST)
            await self.send(Closed())

    async def _check_protocol(self, event: h11.Request) -> None:
        names = {name for name, _ in event.headers}
        if {b"content-length", b"transfer-encoding"} <= names or not event.http_version.startswith(b"1."):
            raise _Refused


class _Server(TCPServer):
    """Hypercorn's server for one connection, with HTTP/1.1 of our own."""

    @property
    def protocol(self) -> ProtocolWrapper:  # a plain attribute there, set by `run`
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: ProtocolWrapper) -> None:
        protocol.protocol = _Http1(
            self.app,
            self.config,
            self.context,
            protocol.task_group,
            protocol.state,
            protocol.ssl,
            protocol.client,
            protocol.server,
            protocol.send,
        )
        self._protocol = protocol


class _Replayed:
    """A stream whose beginning has been read already. Everything else is the stream's own."""

    def __init__(self, stream: trio.SocketStream, beginning: bytes) -> None:
        self._stream = stream
        self._beginning = beginning
        self.socket = stream.socket
        self.send_all = stream.send_all
        self.send_eof = stream.send_eof
        self.aclose = stream.aclose

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """First what was read before, then what comes."""
        if self._beginning:
            await trio.lowlevel.checkpoint()
            data, self._beginning = self._beginning, b""
            return data
        return await self._stream.receive_some(max_bytes)
