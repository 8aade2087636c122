"""The bytes in the store: what goes in comes out, and what is not ours is a DecodeError, never anything else."""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskward import codec
from taskward.errors import DecodeError
from taskward.task import Attempt, ErrorInfo, Progress, RetryPolicy, Spec

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
MS = st.integers(0, 2**53)
SPECS = st.builds(
    Spec,
    type=TEXT,
    payload=JSON,
    priority=TEXT,
    run_at_ms=st.none() | MS,
    delay_ms=st.none() | MS,
    expires_ms=st.none() | MS,
    deadline_ms=st.none() | MS,
    timeout_ms=st.none() | MS,
    max_attempts=st.none() | st.integers(1, 1000),
    retry=st.none()
    | st.builds(
        RetryPolicy, base_seconds=st.floats(0, 86_400), max_seconds=st.floats(0, 604_800), multiplier=st.floats(1, 100)
    ),
    idempotency_key=st.none() | TEXT,
    tags=st.lists(TEXT, max_size=3).map(tuple),
    headers=st.dictionaries(TEXT, TEXT, max_size=3),
    traceparent=st.sampled_from([None, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]),
)
ERRORS = st.none() | st.builds(ErrorInfo, type=TEXT, message=TEXT, traceback=TEXT)
ATTEMPTS = st.builds(
    Attempt,
    n=MS,
    worker_id=TEXT,
    queued_ms=MS,
    started_ms=MS,
    finished_ms=MS,
    outcome=TEXT,
    error=ERRORS,
    cancel_cause=st.none() | TEXT,
    cancelled_ms=st.none() | MS,
)
FIELD = st.text(st.characters(exclude_characters="|", exclude_categories=["Cs"]), max_size=10)


@given(SPECS, st.text("0123456789,", max_size=20))
def test_a_spec_comes_back(spec: Spec, head: str) -> None:
    assert codec.decode_spec(f"{head},{codec.encode_spec(spec)}".encode()) == spec


@given(SPECS)
def test_equal_specs_are_equal_bytes(spec: Spec) -> None:
    again = msgspec.convert(msgspec.to_builtins(spec), Spec)
    assert again == spec
    assert codec.encode_spec(again) == codec.encode_spec(spec)


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("spec", "stored"),
    [
        (Spec(type="t"), ';["t",null]'),
        (Spec(type="t", payload="default"), ';["t","default"]'),
        (Spec(type="t", payload=1, priority="low"), ';["t",1,"low"]'),
        (Spec(type="t", delay_ms=5), ';["t",null,"default",null,5]'),
        (
            Spec(type="t", idempotency_key="default"),
            ';["t",null,"default",null,null,null,null,null,null,null,"default"]',
        ),
        (Spec(type="t", traceparent=TRACE), f'{TRACE};["t",null]'),
    ],
)
def test_a_spec_says_only_what_was_said(spec: Spec, stored: str) -> None:
    assert codec.encode_spec(spec) == stored
    assert codec.decode_spec(f",1,,{stored}".encode()) == spec


@given(st.none() | MS, MS, st.none() | MS)
def test_a_head_comes_back(start_by: int | None, created: int, due: int | None) -> None:
    text = f"{'' if start_by is None else start_by},{created},{'' if due is None else due},;[]"
    assert codec.decode_head(text.encode()) == (created, due)


@given(
    st.sampled_from("RQTSDCE"),
    st.tuples(MS, MS, MS, MS),
    st.tuples(FIELD, FIELD, FIELD),
    st.none() | MS,
    st.none() | MS,
)
def test_a_record_comes_back(
    state: str, numbers: tuple[int, ...], texts: tuple[str, ...], started: int | None, finished: int | None
) -> None:
    token, attempt, queued, reaps = numbers
    priority, worker, cause = texts
    record = codec.Record(state, token, finished, cause or None, priority, attempt, worker, queued, started, reaps)
    text = "|".join("" if field is None else str(field) for field in record)
    assert codec.decode_record(text.encode()) == record


@given(st.lists(ATTEMPTS, max_size=4).map(tuple))
def test_a_history_comes_back(attempts: tuple[Attempt, ...]) -> None:
    lines = b"".join(codec.encode_attempt(attempt) + b"\n" for attempt in attempts)
    assert codec.decode_history(lines) == attempts


@given(JSON)
def test_a_value_comes_back(value: Any) -> None:
    assert codec.decode_value(codec.encode_value(value)) == value


@given(st.builds(Progress, current=st.floats(0, 1e9), total=st.none() | st.floats(0, 1e9), message=TEXT))
def test_progress_comes_back(progress: Progress) -> None:
    assert codec.decode_progress(msgspec.json.encode(progress)) == progress


def test_a_cancel_comes_back_with_and_without_its_moment() -> None:
    assert codec.decode_cancel(b"user 1700000000123") == ("user", 1_700_000_000_123)
    assert codec.decode_cancel(b"deadline") == ("deadline", None)


DECODERS: list[Callable[[bytes], Any]] = [
    codec.decode_spec,
    codec.decode_head,
    codec.decode_record,
    codec.decode_history,
    codec.decode_value,
    codec.decode_progress,
    codec.decode_cancel,
]
DEEP = b"[" * 100_000
HOSTILE = [
    b"",
    b";",
    b"\xff\xfe",
    b"1,2,3,;\xff",
    b"1,2,3,;" + DEEP,
    b"x,y,z,;[]",
    b"1,2;[]",
    b"1,2,3,\xff;[1]",
    b"R|1|||p|1|w|1|1",
    b"R|x|||p|1|w|1|1|0",
    b"R|" + b"9" * 5000 + b"|||p|1|w|1|1|0",
    b"R|1|||\xff|1|w|1|1|0",
    b"nonsense|",
    b'{"t":1}',
    b"1,2,3,;[1]",
    b"NaN",
]


@pytest.mark.parametrize("decode", DECODERS)
@given(st.binary(max_size=60))
def test_any_bytes_decode_or_are_refused(decode: Callable[[bytes], Any], stored: bytes) -> None:
    _decodes_or_is_refused(decode, stored)


@pytest.mark.parametrize("decode", DECODERS)
def test_bytes_nested_too_deeply_are_refused(decode: Callable[[bytes], Any]) -> None:
    _decodes_or_is_refused(decode, DEEP)


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("stored", HOSTILE)
def test_hostile_bytes_decode_or_are_refused(decode: Callable[[bytes], Any], stored: bytes) -> None:
    _decodes_or_is_refused(decode, stored)


def _decodes_or_is_refused(decode: Callable[[bytes], Any], stored: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode(stored)


@pytest.mark.parametrize(
    ("decode", "stored"),
    [
        (codec.decode_spec, b'["t"]'),
        (codec.decode_spec, b"1,2,3,;"),
        (codec.decode_spec, b"1,2,3,;[]"),
        (codec.decode_head, b"1,,"),
        (codec.decode_head, b",,;"),
        (codec.decode_record, b"R|1"),
        (codec.decode_history, b"{}\n"),
        (codec.decode_value, b"{"),
        (codec.decode_progress, b"[]"),
        (codec.decode_cancel, b"user soon"),
    ],
)
def test_garbage_is_refused(decode: Callable[[bytes], Any], stored: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(stored)


@pytest.mark.parametrize("value", [object(), {1, 2, object()}, lambda: None])
def test_a_result_without_a_json_form(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        codec.encode_value(value)


def test_infinite_numbers_become_null() -> None:
    assert codec.encode_value([math.inf, math.nan]) == b"[null,null]"


def test_every_end_has_its_letter() -> None:
    assert {str(state) for state in codec.ENDS.values()} == {"succeeded", "dead", "cancelled", "expired"}
