"""A proxy between us and Redis that does to connections what networks do, exactly when a test says so."""

import socket
import struct
from dataclasses import dataclass, field

import trio

READ_BYTES = 65_536
GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


@dataclass(eq=False)
class Trap:
    """Waits for a request that contains `marker`; of its reply only the first `keep` bytes come through."""

    marker: bytes
    keep: int
    caught: trio.Event = field(default_factory=trio.Event)
    sprung: trio.Event = field(default_factory=trio.Event)


@dataclass(eq=False)
class Held:
    """Keeps back the next request that contains `marker` until `deliver`, whatever becomes of its sender."""

    marker: bytes
    caught: trio.Event = field(default_factory=trio.Event)
    answered: trio.Event = field(default_factory=trio.Event)
    deliver: trio.Event = field(default_factory=trio.Event)


@dataclass(eq=False)
class _Pipe:
    """A client's connection and ours to the server."""

    client: trio.SocketStream
    dead: bool = False
    trap: Trap | None = None
    held: Held | None = None


class Proxy:
    """Its owner starts `run`. `target` is the server's port; changing it moves the address to another server.

    `delay` is in seconds a chunk and direction. While `answer` is set, it is what every request gets, and the server
    hears of none.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.delay = 0.0
        self.answer: bytes | None = None
        self.port = 0
        self.accepted = 0
        self._pipes: set[_Pipe] = set()
        self._traps: list[Trap] = []
        self._holding: list[Held] = []
        self._flowing = _open_gate()
        self._welcome = _open_gate()
        self._closed = trio.Event()
        self._listening = trio.CancelScope()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._pipes)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Started once it listens."""
        async with trio.open_nursery() as nursery:
            while True:
                listener = _listener(self.port)
                self.port = listener.getsockname()[1]
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                with trio.CancelScope() as self._listening:
                    stream = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
                    await trio.serve_listeners(self._serve, [stream], handler_nursery=nursery)
                self._closed.set()
                await self._welcome.wait()

    def cut(self) -> None:
        """Reset every connection that is open."""
        for pipe in self._pipes:
            _reset(pipe.client)

    async def refuse(self) -> None:
        """Cut, and let nobody in: as a server that is not there."""
        self._welcome, self._closed = trio.Event(), trio.Event()
        self._listening.cancel()
        await self._closed.wait()
        self.cut()

    def welcome(self) -> None:
        """Undo refuse."""
        self._welcome.set()

    def hold(self) -> None:
        """A partition: connections can be made, but not a byte passes either way until `release`."""
        if self._flowing.is_set():
            self._flowing = trio.Event()

    def release(self) -> None:
        """What was held goes on, in order."""
        self._flowing.set()

    def forget_all(self) -> None:
        """Half-open: no byte passes on today's connections ever again, and nobody is told. New ones work."""
        for pipe in self._pipes:
            pipe.dead = True

    def lose_reply(self, marker: bytes) -> Trap:
        """The next request with `marker` is carried out; its reply is swallowed and the connection closed."""
        return self.tear_reply(marker, keep=0)

    def tear_reply(self, marker: bytes, *, keep: int = 3) -> Trap:
        """The same, but the reply is cut off and the connection reset after its first bytes."""
        trap = Trap(marker, keep)
        self._traps.append(trap)
        return trap

    def hold_request(self, marker: bytes) -> Held:
        """The next request with `marker` is late: it reaches the server when its sender has long given it up."""
        held = Held(marker)
        self._holding.append(held)
        return held

    async def _serve(self, client: trio.SocketStream) -> None:
        pipe = _Pipe(client)
        self.accepted += 1
        self._pipes.add(pipe)
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self.target)
            async with server, trio.open_nursery() as nursery:
                nursery.start_soon(self._up, pipe, server, nursery.cancel_scope)
                nursery.start_soon(self._down, pipe, server, nursery.cancel_scope)
        except OSError:
            _reset(client)
        finally:
            self._pipes.discard(pipe)
            await trio.aclose_forcefully(client)

    async def _up(self, pipe: _Pipe, server: trio.SocketStream, both: trio.CancelScope) -> None:
        try:
            while chunk := await pipe.client.receive_some(READ_BYTES):
                await self._pass(pipe)
                if pipe.dead:
                    continue
                if self.answer is not None:
                    await pipe.client.send_all(self.answer * (1 + chunk.count(b"BLPOP")))  # a sleep is two commands
                    continue
                self._spring(pipe, chunk)
                if pipe.held is None:
                    await server.send_all(chunk)
                else:
                    await self._send_late(pipe.held, server, chunk)
        except GONE:
            pass
        both.cancel()

    async def _down(self, pipe: _Pipe, server: trio.SocketStream, both: trio.CancelScope) -> None:
        try:
            while chunk := await server.receive_some(READ_BYTES):
                await self._pass(pipe)
                if pipe.dead:
                    continue
                if pipe.trap is not None:
                    await self._tear(pipe, pipe.trap, chunk)
                    break
                if pipe.held is not None:
                    pipe.held.answered.set()
                await pipe.client.send_all(chunk)
        except GONE:
            pass
        if pipe.dead:
            return  # the client is not told that the server is gone
        both.cancel()

    async def _pass(self, pipe: _Pipe) -> None:
        await self._flowing.wait()
        if self.delay:
            await trio.sleep(self.delay)

    async def _send_late(self, held: Held, server: trio.SocketStream, chunk: bytes) -> None:
        held.caught.set()
        await held.deliver.wait()
        await server.send_all(chunk)
        await held.answered.wait()

    def _spring(self, pipe: _Pipe, chunk: bytes) -> None:
        for held in self._holding:
            if held.marker in chunk:
                self._holding.remove(held)
                pipe.held = held
                return
        for trap in self._traps:
            if trap.marker in chunk:
                self._traps.remove(trap)
                pipe.trap = trap
                trap.caught.set()
                return

    async def _tear(self, pipe: _Pipe, trap: Trap, reply: bytes) -> None:
        if trap.keep:
            await pipe.client.send_all(reply[: trap.keep])
            _reset(pipe.client)
        trap.sprung.set()


def _open_gate() -> trio.Event:
    gate = trio.Event()
    gate.set()
    return gate


def _listener(port: int) -> socket.socket:
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    listener.setblocking(False)
    return listener


def _reset(stream: trio.SocketStream) -> None:
    """Close with RST: what is under way is lost on both sides. One that is closed stays so."""
    if stream.socket.fileno() != -1:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.socket.close()
