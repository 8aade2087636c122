"""The front door: accepts connections, lets the fast lane look first, and gives the rest to hypercorn's server.

This is hypercorn.trio.run.worker_serve for the one case we have (one socket, no TLS, no lifespan), with a look first,
and HTTP/1.1 alone.
"""

import logging
import math
import re
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

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

_log = logging.getLogger("taskward.api")

SWEEP_SECONDS = 0.25
GONE_SECONDS = 2.0
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
        """One connection. Whatever goes wrong on it is the end of it, and of nothing else."""
        server: Callable[..., Any] = _Server
        try:
            rest = await self._drive(stream)
            if rest is not None:
                beginning = _Replayed(stream, rest)
                await server(self._app, self._settings, self._context, ConnectionState({}), beginning).run()
        except GONE:
            pass
        except Exception:  # noqa: BLE001 - whatever a library makes of what a client sends
            _log.exception("a connection failed")
        finally:
            await trio.aclose_forcefully(stream)

    async def _drive(self, stream: trio.SocketStream) -> bytes | None:
        turn = Turn(self._settings.keep_alive_timeout)
        self._turns.add(turn)
        rest = None
        try:
            with turn.scope:
                rest = await drive(stream, self._service, turn, stopping=lambda: self._stopping)
        finally:
            self._turns.remove(turn)
        return rest


# RFC 3986's host and port, as far as a name can be resolved.
_LABEL = rb"[A-Za-z0-9_-]{1,63}"
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|" + _LABEL + rb"(\." + _LABEL + rb")*\.?)?(:\d{0,5})?")


class _Refused(Exception):
    """A request that must not be answered as it stands."""


class _Http1(H11Protocol):
    """Hypercorn's HTTP/1.1, strict where hypercorn is not: a request with a length *and* chunks is refused, because a
    proxy before us may see its end elsewhere (RFC 9112, 6.1); nobody gets to HTTP/2, by upgrade or by assumption, or to
    a WebSocket; and what Quart would fail at before it can answer is refused here: addresses that are none.
    """

    async def handle(self, event: Event) -> None:
        """What hypercorn's server calls with whatever arrives."""
        try:
            # It would tell the app for ever that the client has gone, where nobody hears the app's messages any more.
            with trio.move_on_after(GONE_SECONDS if isinstance(event, Closed) else math.inf):
                await super().handle(event)
        except _Refused:
            await self._send_error_response(HTTPStatus.BAD_REQUEST)
            await self.send(Closed())

    async def _check_protocol(self, event: h11.Request) -> None:
        headers = dict(event.headers)  # h11 has seen to it that there is one host at most
        two_ends = b"content-length" in headers and b"transfer-encoding" in headers
        upgrade = headers.get(b"upgrade", b"").strip().lower()
        if two_ends or upgrade == b"websocket" or not event.http_version.startswith(b"1."):
            raise _Refused
        if not _HOST.fullmatch(headers.get(b"host", b"")) or not _is_target(event.target):
            raise _Refused


def _is_target(target: bytes) -> bool:
    try:
        urlsplit(target)
    except ValueError:
        return False
    return True


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
