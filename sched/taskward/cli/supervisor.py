"""The supervisor: processes that live and die together, over one store; nesting is the order they stop in."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import partial

import trio

from taskward.child import Child, running
from taskward.cli.signals import stop_on_signal
from taskward.errors import TaskwardError

READY_SECONDS = 30.0
LOOK_SECONDS = 0.05
ANSWER_SECONDS = 2.0
OK = 200

Say = Callable[[str, str], None]


class NotReady(TaskwardError):
    """A part has not answered 200 at /readyz in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One process of the service. It is ready when `host:port` answers 200 at /readyz."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    host: str
    port: int


async def supervise(
    store: AbstractAsyncContextManager[str],
    parts_over: Callable[[str], Sequence[Part]],
    *,
    say: Say,
    on_ready: Callable[[str], None],
    stop_seconds: float,
) -> None:
    """Run the store and the parts over it (given its URL) until SIGINT or SIGTERM; a second one kills.

    `say` gets (part, line) for all they write; `on_ready` the store's URL once all parts are ready. They stop in the
    reverse of their order, each within `stop_seconds`, then the store. Raises (in a group) ChildEnded for a part that
    ends by itself, NotReady, and what `store` raises: then all the others have been stopped as well.
    """
    stop = trio.Event()
    children: list[Child] = []

    def hurry() -> None:
        for child in children:
            child.kill()

    async with trio.open_nursery() as signals:
        await signals.start(stop_on_signal, stop, hurry)
        async with trio.open_nursery() as until_stopped, AsyncExitStack() as processes:
            until_stopped.start_soon(_cancel_at, stop, until_stopped.cancel_scope, say)
            url = await processes.enter_async_context(store)
            parts = parts_over(url)
            for part in parts:
                child = running(
                    part.command,
                    name=part.name,
                    on_line=partial(say, part.name),
                    stop_seconds=stop_seconds,
                    env=part.env,
                )
                children.append(await processes.enter_async_context(child))
            await _all_ready(parts)
            on_ready(url)
            await trio.sleep_forever()
        signals.cancel_scope.cancel()


async def _cancel_at(stop: trio.Event, scope: trio.CancelScope, say: Say) -> None:
    await stop.wait()
    say("taskward", "stopping; once more kills")
    scope.cancel()


async def _all_ready(parts: Sequence[Part]) -> None:
    async with trio.open_nursery() as nursery:
        for part in parts:
            nursery.start_soon(_ready, part)


async def _ready(part: Part) -> None:
    status: int | None = None
    with trio.move_on_after(READY_SECONDS):
        while status != OK:
            status = await _readyz(part)
            if status != OK:
                await trio.sleep(LOOK_SECONDS)
    if status != OK:
        said = "does not answer" if status is None else f"answers {status}"
        raise NotReady(f"{part.name} is not ready after {READY_SECONDS:g} s: /readyz on port {part.port} {said}")


async def _readyz(part: Part) -> int | None:
    """The status of its answer; None where there is none."""
    with trio.move_on_after(ANSWER_SECONDS):
        try:
            async with await trio.open_tcp_stream(part.host, part.port) as stream:
                request = f"GET /readyz HTTP/1.1\r\nHost: {part.host}:{part.port}\r\nConnection: close\r\n\r\n"
                await stream.send_all(request.encode())
                answer = re.match(rb"HTTP/1\.\d (\d{3}) ", await stream.receive_some(16))
                return int(answer[1]) if answer else None
        except (OSError, trio.BrokenResourceError):
            pass
    return None
