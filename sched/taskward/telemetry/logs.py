"""Logs: one line per event worth it, as text or JSON. Never a payload, a secret or a raw control character.

Of an error a line has the type: what it says may be made of the payload, and is in the store, with the task's id.
"""

import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from logging import DEBUG, INFO, WARNING
from typing import Any, TextIO, assert_never

from taskward.events import (
    AdmissionChanged,
    Event,
    HandlerStuck,
    HttpAnswered,
    LeaseWasLost,
    Lifecycle,
    LoopStalled,
    OutageBegan,
    OutageEnded,
    SampleFailed,
    SubmissionRefused,
    TaskReaped,
    TaskSettled,
    TasksExpired,
    TasksSubmitted,
    TaskStarted,
    Trouble,
)
from taskward.policy.retry import (
    Bury,
    Cancel,
    Complete,
    Decision,
    Failed,
    Outcome,
    Release,
    RetryAsked,
    RetryIn,
    Stopped,
    Succeeded,
)
from taskward.task import CancelCause, Lease
from taskward.telemetry.tracing import CurrentSpan, Span

# Libraries that talk of every request, connection or span they handle.
_TALKATIVE = ("opentelemetry", "hypercorn", "quart", "urllib3", "requests", "asyncio", "trio-asyncio")
_SECRETS = re.compile(r"password|passwd|secret|authorization|cookie|credential|api_?key|bearer", re.IGNORECASE)
_LOGINS = re.compile(r"(?<=://)[^/\s@]+(?=@)|(?<=bearer )\S+", re.IGNORECASE)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLAIN = re.compile(r"[\w./:@+-]+", re.ASCII)
_FRAME = re.compile(r'^ {2}File "(.+)", line (\d+)', re.MULTILINE)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "fields"}

# The events that are said with their own fields; the others have their own ways.
_LINES: Mapping[type, tuple[int, str]] = {
    TaskReaped: (WARNING, "lease expired, task taken back"),
    LeaseWasLost: (WARNING, "lease lost"),
    HandlerStuck: (WARNING, "handler does not let go"),
    LoopStalled: (WARNING, "event loop stalled"),
    OutageBegan: (WARNING, "redis does not answer"),
    OutageEnded: (INFO, "redis answers again"),
    TaskStarted: (DEBUG, "attempt started"),
    TasksSubmitted: (DEBUG, "tasks submitted"),
    TasksExpired: (DEBUG, "tasks expired"),
    SubmissionRefused: (DEBUG, "submission refused"),
    HttpAnswered: (DEBUG, "request answered"),
    SampleFailed: (DEBUG, "sample failed"),
}


def configure(level: str, fmt: str, *, current_span: CurrentSpan = lambda: None, stream: TextIO | None = None) -> None:
    """Send everything that is logged in this process to stderr. `level` as in LOG_LEVEL, `fmt` "text" or "json".

    `current_span` gives the trace that a line belongs to.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter((_Json if fmt == "json" else _Text)(current_span))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class LogObserver:
    """An Observer: one line per event worth it. What the level hides costs one look into a dict.

    Made after `configure`, because it asks for the level once.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._log = logger or logging.getLogger("taskward")
        self._debug = self._log.isEnabledFor(DEBUG)
        self._say: dict[type, Callable[[Any], None]] = {
            event: partial(self._line, level, message)
            for event, (level, message) in _LINES.items()
            if self._log.isEnabledFor(level)
        }
        if self._log.isEnabledFor(WARNING):
            self._say |= {
                AdmissionChanged: self._admission_changed,
                TaskSettled: self._settled,
                Trouble: lambda e: self._write(WARNING, e.what, e.fields),
            }
        if self._log.isEnabledFor(INFO):
            self._say[Lifecycle] = lambda e: self._write(INFO, e.what, e.fields)

    def __call__(self, event: Event) -> None:
        """Say it, or not."""
        say = self._say.get(type(event))
        if say is not None:
            say(event)

    def _line(self, level: int, message: str, event: Any) -> None:
        self._write(level, message, _fields(event))

    def _write(self, level: int, message: str, fields: Mapping[str, object]) -> None:
        self._log.log(level, message, extra={"fields": fields})

    def _admission_changed(self, event: AdmissionChanged) -> None:
        fields = {"closed": ",".join(event.closed), "memory": round(event.memory, 3)}
        if event.closed:
            self._write(WARNING, "redis is short of memory, submissions are refused", fields)
        else:
            self._write(INFO, "redis has room again, submissions are taken", fields)

    def _settled(self, event: TaskSettled) -> None:
        error = _error_of(event.outcome)
        if error is None and not self._debug:
            return
        fields = {**_lease(event.lease), "seconds": event.seconds, **_fate(event.decision), **_trace(event.span)}
        if error is None:
            self._write(DEBUG, "attempt ended", fields)
        else:
            self._write(WARNING if isinstance(event.decision, Bury) else INFO, "attempt failed", {**fields, **error})


def _fields(event: Any) -> dict[str, object]:
    fields = {name: getattr(event, name) for name in event.__struct_fields__ if name not in ("lease", "known_type")}
    return {**_lease(event.lease), **fields} if hasattr(event, "lease") else fields


def _lease(lease: Lease) -> dict[str, object]:
    return {
        "task_id": lease.id,
        "type": lease.spec.type,
        "priority": lease.spec.priority,
        "attempt": lease.attempt,
        "token": lease.token,
    }


def _error_of(outcome: Outcome) -> dict[str, object] | None:
    """Its type, and where it was raised. Not its message, in which there may be parts of a payload."""
    match outcome:
        case Succeeded():  # first: it is every task's
            return None
        case Failed(error) | RetryAsked(_, error):
            at = _FRAME.findall(error.traceback)
            return {"error": error.type, "at": ":".join(at[-1])} if at else {"error": error.type}
        case Stopped(cause):
            return {"error": "Timeout"} if cause is CancelCause.TIMEOUT else None
        case _:
            assert_never(outcome)


def _fate(decision: Decision) -> dict[str, object]:
    match decision:
        case Complete():
            return {"then": "succeeded"}
        case RetryIn(seconds, reason):
            return {"then": "retry", "reason": reason, "retry_in": seconds}
        case Bury(reason):
            return {"then": "dead", "reason": reason}
        case Cancel(cause):
            return {"then": "cancelled", "cause": cause}
        case Release(cause):
            return {"then": "released", "cause": cause}
        case _:
            assert_never(decision)


class _Formatter(logging.Formatter):
    """Turns a record into facts: what is said, its fields, and where they came from."""

    def __init__(self, current_span: CurrentSpan) -> None:
        super().__init__()
        self._current_span = current_span

    def facts(self, record: logging.LogRecord) -> dict[str, Any]:
        said = {k: v for k, v in vars(record).items() if k not in _STANDARD} | dict(getattr(record, "fields", {}))
        facts = {k: _safe(k, v) for k, v in said.items()}
        return _trace(self._current_span()) | facts

    def trace(self, record: logging.LogRecord) -> str:
        return _masked(self.formatException(record.exc_info)) if record.exc_info else ""


class _Json(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": _masked(record.getMessage()),
        }
        if trace := self.trace(record):
            line["exception"] = trace
        return json.dumps(line | {k: v for k, v in self.facts(record).items() if k not in line}, default=str)


class _Text(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {_escaped(k)}={_quoted(v)}" for k, v in self.facts(record).items())
        said = _escaped(_masked(record.getMessage()))
        lines = [f"{_timestamp(record)} {record.levelname.lower():<7} {record.name}: {said}{fields}"]
        lines += [f"    {_escaped(line)}" for line in self.trace(record).splitlines()]
        return "\n".join(lines)


def _trace(span: object) -> dict[str, object]:
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"} if isinstance(span, Span) else {}


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _safe(key: str, value: object) -> object:
    if _SECRETS.search(key) or (key == "token" and isinstance(value, str)):
        return "***"
    if isinstance(value, Mapping):
        return {str(k): _safe(str(k), v) for k, v in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_safe("", v) for v in value]
    if isinstance(value, float):
        return round(value, 3)  # seconds, mostly
    return value if isinstance(value, int | None) else _masked(str(value))


def _masked(text: str) -> str:
    return _LOGINS.sub("***", text)


def _escaped(text: str) -> str:
    return _CONTROLS.sub(lambda found: repr(found.group())[1:-1], text)


def _quoted(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if _PLAIN.fullmatch(text) else json.dumps(value, default=str)
