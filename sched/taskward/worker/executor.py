"""The executor: one attempt, from the payload to an outcome. It writes nothing and decides nothing."""

import inspect
import math
import threading
import traceback
from dataclasses import dataclass
from types import TracebackType
from typing import Any, assert_never

import msgspec
import trio
import trio_asyncio
import trio_parallel

from taskward import codec
from taskward.app import Handler, Kind
from taskward.errors import DecodeError, Discard, Retry
from taskward.policy.retry import Failed, Outcome, RetryAsked, Stopped, Succeeded
from taskward.task import ErrorInfo
from taskward.worker import on_asyncio, on_process
from taskward.worker.running import Running

MESSAGE_CHARS = 2000
TRACEBACK_CHARS = 4000
# A result with no more brackets than that nests no deeper than any reader can follow. Of others it is tried whether one
# that is some levels deep already can.
FLAT = 64
SPARE_LEVELS = 100
UNTOLD = "<its text cannot be had>"
_NO_LIMIT = trio.CapacityLimiter(math.inf)


@dataclass(frozen=True, slots=True)
class Executor:
    """Calls handlers where they belong. `threads` and `processes` bound what runs beside the loop."""

    threads: trio.CapacityLimiter
    processes: trio.CapacityLimiter
    max_result_bytes: int

    async def attempt(self, running: Running) -> Succeeded | Failed:
        """Run the handler. Raises whatever it raises; `failure` makes an outcome of that."""
        if running.cause is not None:  # it was to stop before it began: it does not begin
            await trio.lowlevel.checkpoint()
        handler = running.handler
        if handler is None:
            return Failed(ErrorInfo("UnknownType", f"no handler for {running.lease.spec.type!r}"), "unknown_type")
        try:
            payload = handler.convert(running.lease.spec.payload)
        except (msgspec.ValidationError, TypeError) as exc:
            return Failed(ErrorInfo("InvalidPayload", str(exc)), "invalid_payload", retryable=False)
        return self._result(await self._call(handler, payload, running))

    async def _call(self, handler: Handler, payload: Any, running: Running) -> Any:
        args = (payload, running.make_context()) if handler.wants_context else (payload,)
        match handler.kind:
            case Kind.TRIO:
                return await handler.function(*args)
            case Kind.THREAD:
                # Not abandoned on cancel: the slot stays taken until the thread has returned.
                return await trio.to_thread.run_sync(_in_thread, running, handler, args, limiter=self.threads)
            case Kind.ASYNCIO:
                return await trio_asyncio.aio_as_trio(on_asyncio.run)(handler.function, args)
            case Kind.PROCESS:
                return await self._in_process(handler, payload, running)
            case _:
                assert_never(handler.kind)

    async def _in_process(self, handler: Handler, payload: Any, running: Running) -> Any:
        running.allow(math.inf)  # its time does not run while it waits for a process
        async with self.processes:
            running.allow(running.timeout)
            args = (payload, running.make_context()) if handler.wants_context else (payload,)
            return await trio_parallel.run_sync(
                on_process.run, handler.function, args, kill_on_cancel=True, limiter=_NO_LIMIT
            )

    def _result(self, value: Any) -> Succeeded | Failed:
        try:
            encoded = codec.encode_value(value)
            if encoded.count(b"[") + encoded.count(b"{") > FLAT or isinstance(value, msgspec.Raw):
                codec.decode_value(b"[" * SPARE_LEVELS + encoded + b"]" * SPARE_LEVELS)
        except (TypeError, ValueError, OverflowError, RecursionError, DecodeError) as exc:
            return Failed(ErrorInfo("InvalidResult", f"the result has no JSON form: {exc}"), "invalid_result")
        if len(encoded) > self.max_result_bytes:
            text = f"the result has {len(encoded)} bytes, MAX_PAYLOAD_BYTES is {self.max_result_bytes}"
            return Failed(ErrorInfo("ResultTooLarge", text), "invalid_result")
        return Succeeded(encoded)


def _in_thread(running: Running, handler: Handler, args: tuple[Any, ...]) -> Any:
    running.thread_id = threading.get_ident()
    try:
        return handler.function(*args)
    finally:
        running.thread_id = None


def failure(exc: BaseException, running: Running) -> Outcome:
    """What a handler that raised comes to."""
    if running.stopping:
        return Stopped(running.stopped_by())  # what it raised while it was being stopped is not why it stopped
    try:
        return _told(exc, running)
    except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit):  # noqa: BLE001 - from code of the handler's classes
        return Failed(ErrorInfo("Exception", UNTOLD))


def _told(exc: BaseException, running: Running) -> Outcome:
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]  # a nursery in the handler wraps whatever it raised
    if isinstance(exc, on_asyncio.Exit):
        exc = exc.raised
    error = ErrorInfo(
        type(exc).__name__,
        (_said(exc) + _hint(exc))[:MESSAGE_CHARS],
        codec.storable("".join(traceback.format_exception(type(exc), exc, _handlers_part(exc, running))))[
            -TRACEBACK_CHARS:
        ],
    )
    match exc:
        case Retry(after=after):
            return RetryAsked(None if after is None else float(after), error)
        case Discard():
            return Failed(error, "discarded", retryable=False)
        case _:
            return Failed(error)


def _handlers_part(exc: BaseException, running: Running) -> TracebackType | None:
    """From the handler's own function on, without the frames that led there."""
    function = running.handler and inspect.unwrap(running.handler.function)
    at = exc.__traceback__
    while at is not None and at.tb_frame.f_code is not getattr(function, "__code__", None):
        at = at.tb_next
    return at or exc.__traceback__


def _hint(exc: BaseException) -> str:
    # What Trio says where a coroutine waits for asyncio.
    foreign = isinstance(exc, TypeError) and "unrecognized yield message" in str(exc)
    return " A handler that uses asyncio is registered with @app.task(asyncio=True)." if foreign else ""


def _said(exc: BaseException) -> str:
    try:
        return codec.storable(str(exc))
    except Exception:  # noqa: BLE001 - __str__ of a handler's own class
        return UNTOLD
