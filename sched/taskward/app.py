"""App: what a user writes handlers and schedules with. A registry; it runs nothing itself."""

import importlib
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec

from taskward.errors import ConfigError
from taskward.schedule import Schedule
from taskward.task import RetryPolicy

Function = TypeVar("Function", bound=Callable[..., Any])

UNKNOWN_TYPE = "unknown"
MAX_TYPE_LENGTH = 64


class Kind(StrEnum):
    """Where a handler runs."""

    TRIO = "trio"
    THREAD = "thread"
    ASYNCIO = "asyncio"
    PROCESS = "process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A registered function with its policy. None means the server's setting. Seconds are floats."""

    type: str
    function: Callable[..., Any]
    kind: Kind
    wants_context: bool
    payload_type: Any
    timeout_seconds: float | None
    max_attempts: int | None
    retry: RetryPolicy | None

    def convert(self, payload: Any) -> Any:
        """A decoded payload as the function's annotation wants it. Raises msgspec.ValidationError or TypeError."""
        return payload if self.payload_type is Any else msgspec.convert(payload, self.payload_type)


class App:
    """The handlers of one application, and its schedules.

        app = App()

        @app.task("email.send", timeout_seconds=30, max_attempts=8)
        async def send(payload: Email, ctx: Context) -> None: ...

        app.schedule("weekly", "0 9 * * MON", "email.send", {"to": "all"}, timezone="Europe/Berlin")

    The first parameter gets the payload; where it is annotated with a dataclass, TypedDict or msgspec.Struct
    the payload is checked against it and converted. A second parameter, if there is one, gets the Context.
    The function itself stays callable as it is.
    """

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.schedules: dict[str, Schedule] = {}

    def task(
        self,
        type: str | None = None,
        *,
        asyncio: bool = False,
        process: bool = False,
        timeout_seconds: float | None = None,
        max_attempts: int | None = None,
        retry: RetryPolicy | None = None,
    ) -> Callable[[Function], Function]:
        """Register a handler: `async def` runs in Trio, `def` in a thread; `asyncio=True` on trio-asyncio,
        `process=True` in a process that can be killed. Raises ConfigError where that does not fit, and for a policy
        whose numbers are none.
        """
        if type is not None and not isinstance(type, str):
            raise ConfigError("@app.task needs parentheses: @app.task()")

        def register(function: Function) -> Function:
            name = type or function.__name__
            if name in self.handlers:
                raise ConfigError(f"two handlers for task type {name!r}")
            if not 0 < len(name) <= MAX_TYPE_LENGTH or name == UNKNOWN_TYPE or not name.isprintable():
                raise ConfigError(f"task type {name!r}: 1 to {MAX_TYPE_LENGTH} printable characters, not 'unknown'")
            wants_context, payload_type = _signature(name, function)
            _check_policy(name, timeout_seconds, max_attempts, retry)
            self.handlers[name] = Handler(
                type=name,
                function=function,
                kind=_kind(name, function, asyncio=asyncio, process=process),
                wants_context=wants_context,
                payload_type=payload_type,
                timeout_seconds=timeout_seconds,
                max_attempts=max_attempts,
                retry=retry,
            )
            return function

        return register

    def schedule(
        self,
        name: str,
        cron: str,
        type: str,
        payload: Any = None,
        *,
        timezone: str = "UTC",
        priority: str | None = None,
        tags: Sequence[str] = (),
        misfire_grace_seconds: float = 0,
    ) -> None:
        """Have a task submitted whenever `cron` says so: one, however many workers run this application. `cron` has
        five fields, as in crontab(5), or six with the seconds first. A worker that starts also submits the last task
        that should have been submitted in the `misfire_grace_seconds` before, if none did. Raises ConfigError for what
        is no schedule.
        """
        if name in self.schedules:
            raise ConfigError(f"two schedules are called {name!r}")
        self.schedules[name] = Schedule(
            name=name,
            cron=cron,
            timezone=timezone,
            type=type,
            payload=payload,
            priority=priority,
            tags=tuple(tags),
            misfire_grace_seconds=misfire_grace_seconds,
        )

    def label(self, type: str) -> str:
        """The type where a handler has it, else "unknown": safe as a metric label."""
        return type if type in self.handlers else UNKNOWN_TYPE


def _kind(name: str, function: Callable[..., Any], *, asyncio: bool, process: bool) -> Kind:
    is_async = inspect.iscoroutinefunction(function)
    if asyncio and process:
        raise ConfigError(f"task type {name!r}: asyncio and process exclude each other")
    if asyncio and not is_async:
        raise ConfigError(f"task type {name!r}: asyncio=True needs an async def")
    if process and is_async:
        raise ConfigError(f"task type {name!r}: process=True needs a plain def")
    if process:
        return Kind.PROCESS
    if asyncio:
        return Kind.ASYNCIO
    return Kind.TRIO if is_async else Kind.THREAD


def _check_policy(
    name: str, timeout_seconds: float | None, max_attempts: int | None, retry: RetryPolicy | None
) -> None:
    if timeout_seconds is not None and not 0 < timeout_seconds < math.inf:
        raise ConfigError(f"task type {name!r}: timeout_seconds is a number of seconds above 0")
    if max_attempts is not None and max_attempts < 1:
        raise ConfigError(f"task type {name!r}: max_attempts is at least 1")
    if retry is not None and not (
        all(0 <= seconds < math.inf for seconds in (retry.base_seconds, retry.max_seconds, retry.multiplier))
        and 0 <= retry.jitter <= 1
    ):
        raise ConfigError(f"task type {name!r}: retry has numbers of 0 or more, and a jitter of 1 at most")


def _signature(name: str, function: Callable[..., Any]) -> tuple[bool, Any]:
    parameters = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    if not 1 <= len(parameters) <= 2 or any(
        p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters
    ):
        raise ConfigError(f"task type {name!r}: the handler takes (payload) or (payload, context)")
    return len(parameters) == 2, get_type_hints(function).get(parameters[0].name, Any)


def load(path: str) -> App:
    """Import "package.module:name". Raises ConfigError, in one line, where there is no App, or one of its schedules has
    no handler that takes its payload.
    """
    module_name, _, attribute = path.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute or "app")
    except (ImportError, AttributeError, ValueError) as exc:
        raise ConfigError(f"cannot load the app {path!r}: {exc}{_hint(path, exc)}") from exc
    if not isinstance(found, App):
        raise ConfigError(f"{path!r} is {type(found).__name__}, not a taskward.App")
    for schedule in found.schedules.values():
        _check_handled(schedule, found.handlers.get(schedule.type))
    if not found.handlers:
        raise ConfigError(f"{path!r} has no handlers: a function becomes one by @app.task()")
    return found


def _hint(path: str, exc: Exception) -> str:
    if not isinstance(exc, ModuleNotFoundError):
        return ""
    if "/" in path or path.partition(":")[0].endswith(".py"):
        return " (write it as package.module:name)"
    return f" (looked for in {Path.cwd()} and PYTHONPATH; --app names another)"


def _check_handled(schedule: Schedule, handler: Handler | None) -> None:
    """Better now than on Monday at nine."""
    if handler is None:
        raise ConfigError(f"schedule {schedule.name!r}: the app has no handler for {schedule.type!r}")
    try:
        handler.convert(msgspec.to_builtins(schedule.payload))
    except (msgspec.ValidationError, TypeError) as exc:
        raise ConfigError(f"schedule {schedule.name!r}: its payload does not fit the handler: {exc}") from exc
