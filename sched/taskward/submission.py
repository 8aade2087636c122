"""Submission bodies -> Submission: the parse and check that every way in shares.

The clock is handed in; the id of a task that names none is made here, so that each reading of it has another.
"""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
import uuid_utils
from msgspec import Meta

from taskward.config import Config
from taskward.errors import InvalidTask, TaskTooLarge, TaskwardError, UnreadableBody
from taskward.task import RetryPolicy, Spec, Submission

MAX_DEPTH = 64
MAX_TASKS = 10_000
MAX_HEADERS = 16
MAX_HEADER_LENGTH = 1024
MAX_AHEAD_SECONDS = 10 * 366 * 86_400
# A run_at that passed while the request was on its way means now.
RUN_AT_SLACK_MS = 5000

_Id = Annotated[str, Meta(min_length=1, max_length=64, extra_json_schema={"pattern": "^[A-Za-z0-9_-]+$"})]
_Type = Annotated[str, Meta(min_length=1, max_length=64, description="printable, without spaces")]
_Key = Annotated[str, Meta(min_length=1, max_length=255, description="printable")]
_Tag = Annotated[str, Meta(min_length=1, max_length=64, description="printable")]
_Instant = Annotated[datetime, Meta(tz=True, description="RFC 3339, with an offset")]
_Delay = Annotated[float, Meta(ge=0, le=MAX_AHEAD_SECONDS)]
_Timeout = Annotated[float, Meta(ge=0.001, le=7 * 86_400)]


class Fields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A submission as a client writes it. null is the same as leaving a field out."""

    type: _Type
    payload: Any = None
    priority: str | None = None
    run_at: _Instant | None = None
    delay_seconds: _Delay | None = None
    expires_at: _Instant | None = None
    deadline: _Instant | None = None
    timeout_seconds: _Timeout | None = None
    max_attempts: Annotated[int, Meta(ge=1, le=1000)] | None = None
    retry: RetryPolicy | None = None
    idempotency_key: _Key | None = None
    tags: Annotated[tuple[_Tag, ...], Meta(max_length=16)] | None = None
    headers: dict[str, Any] | None = None
    id: _Id | None = None


class Limits(NamedTuple):
    """What a server accepts. `default_priority` stands for a submission that names none."""

    priorities: Sequence[str]
    default_priority: str
    max_payload_bytes: int

    @classmethod
    def of(cls, config: Config) -> "Limits":
        """From the settings: the default is `default`, or where no priority is called so, the middle one."""
        names = config.priority_names
        return cls(names, "default" if "default" in names else names[len(names) // 2], config.max_payload_bytes)


def parse(body: bytes, limits: Limits, now_ms: int) -> Submission:
    """One JSON object. Raises UnreadableBody, InvalidTask or TaskTooLarge; `now_ms` is Unix time."""
    return _submission(convert(_read(body), Fields), limits, now_ms, size=len(body))


def parse_or_error(body: bytes, limits: Limits, now_ms: int) -> Submission | TaskwardError:
    """What `parse` returns, or raises."""
    try:
        return parse(body, limits, now_ms)
    except TaskwardError as exc:
        return exc


def parse_lines(lines: Sequence[bytes], limits: Limits, now_ms: int) -> list[Submission | TaskwardError]:
    """For each line what `parse` would return or raise."""
    try:
        return _submissions(_read_lines(lines), limits, now_ms, size=sum(map(len, lines)))
    except TaskwardError:
        return [parse_or_error(line, limits, now_ms) for line in lines]


def parse_many(body: bytes, limits: Limits, now_ms: int) -> list[Submission | TaskwardError]:
    """A JSON array: for each entry what `parse` would return or raise.

    Raises UnreadableBody, InvalidTask for what is no array, and TaskTooLarge for one of more than MAX_TASKS.
    """
    values = _read(body, depth=MAX_DEPTH + 1)  # of which the array is one
    if type(values) is not list:
        raise InvalidTask("a batch is a JSON array of tasks")
    if len(values) > MAX_TASKS:
        raise TaskTooLarge(f"more than {MAX_TASKS} tasks in one array: send a stream of lines")
    try:
        return _submissions(values, limits, now_ms, size=len(body))
    except TaskwardError:
        return [_submission_or_error(value, limits, now_ms, size=len(body)) for value in values]


def _submissions(values: Sequence[Any], limits: Limits, now_ms: int, *, size: int) -> list[Submission | TaskwardError]:
    """Quicker than one by one, for tasks that are all right. Raises without saying for which."""
    try:
        many = msgspec.convert(values, list[Fields])
    except msgspec.ValidationError as exc:
        raise InvalidTask(str(exc)) from None
    return [_submission(fields, limits, now_ms, size=size) for fields in many]


def _submission_or_error(value: Any, limits: Limits, now_ms: int, *, size: int) -> Submission | TaskwardError:
    try:
        return _submission(convert(value, Fields), limits, now_ms, size=size)
    except TaskwardError as exc:
        return exc


def _submission(fields: Fields, limits: Limits, now_ms: int, *, size: int) -> Submission:
    """`size` is the length of a text that holds the task, and perhaps more."""
    _check_text("/type", fields.type)
    if " " in fields.type:
        raise InvalidTask("no spaces", pointer="/type")
    priority = limits.default_priority if fields.priority is None else fields.priority
    check_priority(priority, limits)
    if fields.id is not None and not _ID.fullmatch(fields.id):
        raise InvalidTask("only A-Z a-z 0-9 _ and -", pointer="/id")
    if size > limits.max_payload_bytes and len(_encode(fields.payload)) > limits.max_payload_bytes:
        raise TaskTooLarge(f"the payload is longer than {limits.max_payload_bytes} bytes of JSON")
    late: list[InvalidTask] = []
    spec = _spec(fields, priority, now_ms, late)
    if late and fields.id is None and fields.idempotency_key is None:
        raise late[0]
    id = fields.id or str(uuid_utils.uuid7())
    return Submission(id, spec, late[0] if late else None)


def _spec(fields: Fields, priority: str, now_ms: int, late: list[InvalidTask]) -> Spec:
    run_at_ms, delay_ms, expires_ms, deadline_ms = _times(fields, now_ms, late)
    if fields.idempotency_key is not None:
        _check_text("/idempotency_key", fields.idempotency_key)
    for n, tag in enumerate(fields.tags or ()):
        _check_text(f"/tags/{n}", tag)
    headers, traceparent = _headers(fields.headers) if fields.headers else (None, None)
    return Spec(
        type=fields.type,
        payload=fields.payload,
        priority=priority,
        run_at_ms=run_at_ms,
        delay_ms=delay_ms,
        expires_ms=expires_ms,
        deadline_ms=deadline_ms,
        timeout_ms=None if fields.timeout_seconds is None else round(fields.timeout_seconds * 1000),
        max_attempts=fields.max_attempts,
        retry=fields.retry,
        idempotency_key=fields.idempotency_key,
        tags=fields.tags or None,
        headers=headers,
        traceparent=traceparent,
    )


def _times(
    fields: Fields, now_ms: int, late: list[InvalidTask]
) -> tuple[int | None, int | None, int | None, int | None]:
    """-> run_at_ms, delay_ms, expires_ms, deadline_ms. What has come too late for them is added to `late`."""
    if not (fields.run_at or fields.delay_seconds or fields.expires_at or fields.deadline):
        return None, None, None, None
    run_at_ms = delay_ms = None
    start_ms = now_ms
    if fields.run_at is not None:
        if fields.delay_seconds is not None:
            raise InvalidTask("run_at and delay_seconds exclude each other", pointer="/delay_seconds")
        start_ms = run_at_ms = _ms(fields.run_at, "/run_at", late, now_ms=now_ms, after_ms=now_ms - RUN_AT_SLACK_MS)
    elif fields.delay_seconds:
        delay_ms = round(fields.delay_seconds * 1000)
        start_ms = now_ms + delay_ms
    after_ms = max(start_ms, now_ms)
    expires_ms = deadline_ms = None
    if fields.expires_at is not None:
        expires_ms = _ms(fields.expires_at, "/expires_at", late, now_ms=now_ms, after_ms=after_ms)
    if fields.deadline is not None:
        deadline_ms = _ms(fields.deadline, "/deadline", late, now_ms=now_ms, after_ms=after_ms)
    return run_at_ms, delay_ms, expires_ms, deadline_ms


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def _ms(moment: datetime, pointer: str, late: list[InvalidTask], *, now_ms: int, after_ms: int) -> int:
    ms = (moment - _EPOCH) // _MILLISECOND
    if ms <= after_ms:
        late.append(InvalidTask("in the past" if ms <= now_ms else "not after the task's start", pointer=pointer))
    if ms > now_ms + MAX_AHEAD_SECONDS * 1000:
        raise InvalidTask("more than ten years ahead", pointer=pointer)
    return ms


_ID = re.compile(r"[A-Za-z0-9_-]+")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")


def _headers(headers: dict[str, Any]) -> tuple[dict[str, str] | None, str | None]:
    """-> the headers without the trace context, and that."""
    if len(headers) > MAX_HEADERS:
        raise InvalidTask(f"at most {MAX_HEADERS} headers", pointer="/headers")
    for name, value in headers.items():
        pointer = "/headers/" + escape(name)
        if not _HEADER.fullmatch(name):
            raise InvalidTask("a header's name is 1 to 64 characters of a lower-case token", pointer=pointer)
        if type(value) is not str or len(value) > MAX_HEADER_LENGTH:
            raise InvalidTask(f"a string of at most {MAX_HEADER_LENGTH} characters", pointer=pointer)
        _check_text(pointer, value)
    traceparent = None
    if _TRACEPARENT.fullmatch(headers.get("traceparent", "")):  # a malformed one is a header like any other
        traceparent = headers.pop("traceparent")
    return headers or None, traceparent


def check_priority(priority: str, limits: Limits) -> None:
    """Raises InvalidTask for one that nobody configured."""
    if priority not in limits.priorities:
        raise InvalidTask(f"one of {', '.join(limits.priorities)}", pointer="/priority")


def _check_text(pointer: str, text: str) -> None:
    if not text.isprintable():
        raise InvalidTask("only printable characters", pointer=pointer)


def escape(name: str) -> str:
    """A key as one step of a JSON pointer, not longer than a log line can bear."""
    return name[:100].replace("~", "~0").replace("/", "~1")


Struct = TypeVar("Struct", bound=msgspec.Struct)
_AT = re.compile(r"(.*?)(?: - at `\$(.*)`)?", re.DOTALL)
_FIELD = re.compile(r"Object (?:contains unknown|missing required) field `(.*)`", re.DOTALL)


def convert(value: Any, kind: type[Struct], *, strict: bool = True) -> Struct:
    """A decoded value as a Struct. Raises InvalidTask with the field's pointer. Not `strict`: numbers from text."""
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as exc:
        raise _invalid(str(exc)) from None


def _invalid(message: str) -> InvalidTask:
    at = _AT.fullmatch(message)
    assert at is not None
    detail, pointer = at[1], (at[2] or "").replace(".", "/").replace("[", "/").replace("]", "")
    if field := _FIELD.fullmatch(detail):
        pointer += "/" + escape(field[1])
    return InvalidTask(detail[:200], pointer=pointer)


_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
# Digits are alike: a long number is found by looking for zeros.
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * 19
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NEITHER_BRACKET_NOR_QUOTE = bytes(set(range(256)) - set(b'[]{}"'))
_STRING = re.compile(rb'"[^"]*"')


def read_object(body: bytes, kind: type[Struct]) -> Struct:
    """A JSON object with the fields of `kind`. Raises UnreadableBody and InvalidTask."""
    return convert(_read(body), kind)


def _read(body: bytes, *, depth: int = MAX_DEPTH) -> Any:
    """Decode strictly: what two readers could understand differently is refused, not guessed at."""
    value = _decoded(body)
    _require_strict(body, value, depth=depth)
    return value


def _read_lines(lines: Sequence[bytes]) -> list[Any]:
    """What `_read` returns for each; where it would raise for one of them, raises without saying for which."""
    values = [_decoded(line) for line in lines]
    _require_strict(b"[" + b",".join(lines) + b"]", values, depth=MAX_DEPTH + 1)
    return values


def _decoded(body: bytes) -> Any:
    try:
        return _decode(body)
    except RecursionError:
        raise UnreadableBody(f"nested deeper than {MAX_DEPTH} levels") from None
    except UnicodeDecodeError:
        raise UnreadableBody("not UTF-8") from None
    except msgspec.DecodeError as exc:
        raise UnreadableBody(str(exc)) from None


def _require_strict(body: bytes, value: Any, *, depth: int) -> None:
    """`value` is what the decoder made of `body`."""
    if body.count(b"{") + body.count(b"[") > depth and _deeper(body, depth):
        raise UnreadableBody(f"nested deeper than {MAX_DEPTH} levels")
    # The decoder keeps the last of two equal keys: written back, the value has fewer colons than the text. Those inside
    # strings are the same in both, unless one is written as an escape.
    if body.count(b":") != _encode(value).count(b":") or (b"\\" in body and b"\\u003" in body):
        json.loads(body, object_pairs_hook=_refuse_duplicates, parse_int=len)
    if _LONG_NUMBER in body.translate(_DIGITS):
        for pointer in _too_long(value, ""):
            raise UnreadableBody(f"the integer at {pointer[:200] or 'the top'} needs more than 64 bits")


def _deeper(body: bytes, levels: int) -> bool:
    """True if the text nests deeper than `levels`: strip everything but brackets, remove the innermost pairs `levels`
    times, and see whether any remain.
    """
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes with nothing between them leave what stands around them inside or outside of strings, as it was.
    brackets = body.translate(_ONE_KIND, _NEITHER_BRACKET_NOR_QUOTE).replace(b'""', b"")
    brackets = _STRING.sub(b"", brackets)
    for _ in range(levels):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for name, _ in pairs:
        if name in seen:
            raise UnreadableBody(f"the key {name[:100]!r} stands twice in one object")
        seen.add(name)


def _too_long(value: Any, pointer: str) -> Iterator[str]:
    match value:
        case dict():
            for name, part in value.items():
                yield from _too_long(part, f"{pointer}/{escape(name)}")
        case list():
            for n, part in enumerate(value):
                yield from _too_long(part, f"{pointer}/{n}")
        case int() if not -(2**63) <= value < 2**64:
            yield pointer
