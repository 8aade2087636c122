"""The front door: accepts connections, lets the fast lane look first, and gives the rest to hypercorn's server.

This is hypercorn.trio.run.worker_serve for the one case we have (one socket, no TLS, no lifespan), with a look first.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config as Settings
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
            server: Callable[..., Any] = TCPServer
            await server(self._app, self._settings, self._context, ConnectionState({}), _Replayed(stream, rest)).run()


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
