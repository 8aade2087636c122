"""The bytes in Redis <-> the values of task.py. Text on purpose: an operator reads them with redis-cli.

spec     "<start_by_ms or ''>,<created_ms>,<due_ms or ''>,<traceparent or ''>;<JSON array of Spec's fields>": the
         scripts read the head, and of the rest only whether two are equal. Unset fields at the end are left out
record   "<state>|<token>|<finished_ms>|<cause>|<priority>|<attempt>|<worker>|<queued_us>|<started_ms>|<reaps>"
         written at the first claim; state letter: R running, Q queued, T retrying, S succeeded, D dead,
         C cancelled, E expired. Where the task *is* decides its state; the letter tells the four ends apart.
history  ended attempts, oldest first, one JSON object a line
cancel   "<cause> <ms of the request>"; "<cause>" alone is read as well
"""

import re
from typing import Any, NamedTuple

import msgspec

from taskward.errors import DecodeError
from taskward.task import Attempt, Progress, Spec, State

ENDS = {"S": State.SUCCEEDED, "D": State.DEAD, "C": State.CANCELLED, "E": State.EXPIRED}

_encoder = msgspec.json.Encoder()
# The same object is the same text, in whatever order its writer has put its keys.
_spec_encoder = msgspec.json.Encoder(order="deterministic")
_spec = msgspec.json.Decoder(Spec)
_attempt = msgspec.json.Decoder(Attempt)
_progress = msgspec.json.Decoder(Progress)
_any = msgspec.json.Decoder()
_COMMA = ord(",")


class SpecHead(NamedTuple):
    """What the scripts add to a Spec when they store it. Unix ms."""

    created_ms: int
    due_ms: int | None


class Record(NamedTuple):
    """The little that changes while a task lives."""

    state: str
    token: int
    finished_ms: int | None
    cause: str | None
    priority: str
    attempt: int
    worker: str
    queued_us: int
    started_ms: int | None
    reaps: int


# The array's end where nothing after the priority is set, and where only the trace context is.
_AFTER_PRIORITY = len(Spec.__struct_fields__) - 1 - Spec.__struct_fields__.index("priority")
_PLAIN_END = ',"default"' + ",null" * _AFTER_PRIORITY + "]"
_UNSET_END = re.compile(r"(?:,null)*\]\Z")


def encode_spec(spec: Spec) -> str:
    """What is stored of a spec after the three times: "<traceparent>;<JSON>". Equal submissions give equal JSON."""
    json = _spec_encoder.encode(spec).decode()
    trace = ""
    if spec.traceparent is not None:
        trace = spec.traceparent
        json = json[: -len(trace) - 3] + "null]"
    kept = json.removesuffix(_PLAIN_END)
    if len(kept) == len(json):
        kept = _UNSET_END.sub("", json)
    return f"{trace};{kept}]"


def decode_spec(stored: bytes) -> Spec:
    """Raises DecodeError where the bytes are not a stored spec."""
    try:
        end = stored.index(b";")
        spec = _spec.decode(stored[end + 1 :])
        if stored[end - 1] != _COMMA:
            return msgspec.structs.replace(spec, traceparent=stored[stored.rindex(b",", 0, end) + 1 : end].decode())
    except (ValueError, IndexError, RecursionError) as exc:
        raise DecodeError(f"spec: {exc}") from exc
    return spec


def created_ms(stored: bytes) -> int:
    """When a stored spec was submitted; 0 where its head cannot be read."""
    first = stored.find(b",") + 1
    text = stored[first : stored.find(b",", first)]
    return int(text) if text.isdigit() else 0


def decode_head(stored: bytes) -> SpecHead:
    """Raises DecodeError where the bytes are not a stored spec."""
    try:
        _start_by, created, due, _trace = stored[: stored.index(b";")].split(b",")
        return SpecHead(int(created), int(due) if due else None)
    except (ValueError, RecursionError) as exc:
        raise DecodeError(f"spec head: {exc}") from exc


def decode_record(stored: bytes) -> Record:
    """Raises DecodeError where the bytes are not a record."""
    try:
        state, token, finished, cause, priority, attempt, worker, queued, started, reaps = stored.decode().split("|")
        return Record(
            state,
            int(token),
            int(finished) if finished else None,
            cause or None,
            priority,
            int(attempt),
            worker,
            int(queued),
            int(started) if started else None,
            int(reaps),
        )
    except (ValueError, RecursionError) as exc:
        raise DecodeError(f"record: {exc}") from exc


def decode_cancel(stored: bytes) -> tuple[str, int | None]:
    """Cause and moment, in Unix ms, of a request to stop. Raises DecodeError where the bytes are not one."""
    try:
        cause, _, asked = stored.decode().partition(" ")
        return cause, int(asked) if asked else None
    except ValueError as exc:
        raise DecodeError(f"cancel: {exc}") from exc


def storable(text: str) -> str:
    """With a ? for each half of a surrogate pair, which UTF-8 has no bytes for."""
    return text.encode(errors="replace").decode()


def encode_attempt(attempt: Attempt) -> bytes:
    """One line of a history."""
    return _encoder.encode(attempt)


def decode_history(stored: bytes) -> tuple[Attempt, ...]:
    """Raises DecodeError where a line is not an attempt."""
    try:
        return tuple(_attempt.decode(line) for line in stored.split(b"\n") if line)
    except (ValueError, RecursionError) as exc:
        raise DecodeError(f"history: {exc}") from exc


def encode_value(value: Any) -> bytes:
    """A result as JSON. Raises TypeError or ValueError where the value has no JSON form."""
    return _encoder.encode(value)


def decode_value(stored: bytes) -> Any:
    """Raises DecodeError where the bytes are not JSON."""
    try:
        return _any.decode(stored)
    except (ValueError, RecursionError) as exc:
        raise DecodeError(f"value: {exc}") from exc


def decode_progress(stored: bytes) -> Progress:
    """Raises DecodeError where the bytes are not a progress report."""
    try:
        return _progress.decode(stored)
    except (ValueError, RecursionError) as exc:
        raise DecodeError(f"progress: {exc}") from exc
