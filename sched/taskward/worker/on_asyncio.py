"""A handler on asyncio: it ends with all the asyncio tasks it has begun, and cannot end the loop that others share."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

_log = logging.getLogger("taskward.handler")

# The tasks that the handler of this context has begun, and those that they have begun.
_family: ContextVar["set[asyncio.Task[Any]] | None"] = ContextVar("taskward_family", default=None)


class Exit(Exception):
    """Code in asyncio raised what would end the loop; `raised` is that."""

    def __init__(self, raised: BaseException) -> None:
        super().__init__(repr(raised))
        self.raised = raised


async def run(function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> Any:
    """What `function` returns or raises, once it and its tasks are gone. Call it in asyncio.

    Tasks that are left when it ends are cancelled, as asyncio.run does it.
    """
    loop = asyncio.get_running_loop()
    loop.set_task_factory(_new_task)
    loop.set_exception_handler(_tell)
    family: set[asyncio.Task[Any]] = set()
    _family.set(family)
    try:
        return await _contained(function(*args))
    finally:
        await _gone(family)


async def _contained(code: Awaitable[Any]) -> Any:
    try:
        return await code
    except (SystemExit, KeyboardInterrupt) as exc:
        raise Exit(exc) from exc


async def _gone(family: "set[asyncio.Task[Any]]") -> None:
    """However often this is cancelled meanwhile: the slot is taken until they are."""
    if family:
        for task in family:
            task.cancel()
        try:
            await asyncio.wait(family)
        finally:
            await _gone(family)


def _new_task(loop: asyncio.AbstractEventLoop, code: Any, **options: Any) -> "asyncio.Task[Any]":
    family = _family.get()
    if family is None:
        return asyncio.Task(code, loop=loop, **options)
    task = asyncio.Task(_contained(code), loop=loop, **options)
    family.add(task)
    task.add_done_callback(family.discard)
    task.add_done_callback(lambda _: code.close())  # one that is cancelled before its first step has not begun with it
    return task


def _tell(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Of what nobody awaited. trio-asyncio's own way would be to end the loop."""
    _log.error("asyncio: %s", context["message"], exc_info=context.get("exception"))
