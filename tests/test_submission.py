"""Submission bodies: what is taken, what is refused, and by which pointer."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from taskward.config import Config
from taskward.errors import InvalidTask, TaskTooLarge, TaskwardError, UnreadableBody
from taskward.submission import MAX_TASKS, Limits, parse, parse_lines, parse_many, parse_or_error
from taskward.task import RetryPolicy, Spec, Submission

NOW_MS = 1_800_000_000_000
LIMITS = Limits.of(Config())


def at(seconds: float, *, offset: int = 0) -> str:
    """An instant so many seconds from NOW_MS, written with an offset of so many hours."""
    moment = datetime.fromtimestamp(NOW_MS / 1000, UTC) + timedelta(seconds=seconds, hours=offset)
    return moment.replace(tzinfo=None).isoformat() + f"{offset:+03d}:00"


def submission(**fields: Any) -> Submission:
    return parse(json.dumps({"type": "t", **fields}).encode(), LIMITS, NOW_MS)


def test_a_bare_task_gets_defaults_and_an_id_that_sorts_by_time() -> None:
    first, second = submission(), submission()
    assert first.spec == Spec(type="t")
    assert first.id < second.id
    assert len(first.id) == 36


def test_every_field_arrives() -> None:
    given = submission(
        id="my-id_1",
        type="email.send",
        payload={"to": ["a", 1, 2.5, None, True]},
        priority="low",
        delay_seconds=1.5,
        expires_at=at(60),
        deadline=at(120, offset=2),
        timeout_seconds=0.25,
        max_attempts=7,
        retry={"base_seconds": 2},
        idempotency_key="order 12",
        tags=["a", "b"],
        headers={"traceparent": "00-x"},
    )
    assert given == Submission(
        "my-id_1",
        Spec(
            type="email.send",
            payload={"to": ["a", 1, 2.5, None, True]},
            priority="low",
            delay_ms=1500,
            expires_ms=NOW_MS + 60_000,
            deadline_ms=NOW_MS + 120_000,
            timeout_ms=250,
            max_attempts=7,
            retry=RetryPolicy(base_seconds=2),
            idempotency_key="order 12",
            tags=("a", "b"),
            headers={"traceparent": "00-x"},
        ),
    )


def test_null_is_the_same_as_leaving_out() -> None:
    names = (
        set(Spec.__struct_fields__)
        - {"type", "run_at_ms", "delay_ms", "expires_ms", "deadline_ms", "timeout_ms"}
        - {"traceparent"}
    )
    left_out = dict.fromkeys([*names, "run_at", "delay_seconds", "expires_at", "deadline", "timeout_seconds", "id"])
    assert submission(**left_out).spec == Spec(type="t")


def test_equal_submissions_are_stored_alike_however_they_are_written() -> None:
    tight = parse(b'{"type":"t","payload":{"a":"\xc3\xa9"}}', LIMITS, NOW_MS)
    loose = parse(b'{ "payload" : {"a" : "\\u00e9"},\n "type":"t" }', LIMITS, NOW_MS)
    assert msgspec.json.encode(tight.spec) == msgspec.json.encode(loose.spec)


def test_run_at_a_moment_ago_means_now() -> None:
    assert submission(run_at=at(-4)).spec.run_at_ms == NOW_MS - 4000


def test_instants_are_taken_with_any_offset() -> None:
    assert submission(run_at=at(3600, offset=5)).spec.run_at_ms == NOW_MS + 3_600_000


def test_without_a_priority_called_default_the_middle_one_is_it() -> None:
    limits = Limits.of(Config(priorities=(("a", 1), ("b", 1), ("c", 1))))
    assert parse(b'{"type":"t"}', limits, NOW_MS).spec.priority == "b"


TOO_MANY_HEADERS = {f"h{n}": "x" for n in range(17)}
INVALID: list[tuple[dict[str, Any], str]] = [
    ({"type": None}, "/type"),
    ({"type": ""}, "/type"),
    ({"type": "x" * 65}, "/type"),
    ({"type": "a b"}, "/type"),
    ({"type": "a\n"}, "/type"),
    ({"type": 5}, "/type"),
    ({"priority": "urgent"}, "/priority"),
    ({"priority": 1}, "/priority"),
    ({"run_at": 5}, "/run_at"),
    ({"run_at": "tomorrow"}, "/run_at"),
    ({"run_at": "2030-01-01T00:00:00"}, "/run_at"),
    ({"run_at": at(-6)}, "/run_at"),
    ({"run_at": at(11 * 366 * 86400)}, "/run_at"),
    ({"run_at": at(5), "delay_seconds": 5}, "/delay_seconds"),
    ({"delay_seconds": -1}, "/delay_seconds"),
    ({"delay_seconds": 1e12}, "/delay_seconds"),
    ({"delay_seconds": "5"}, "/delay_seconds"),
    ({"delay_seconds": True}, "/delay_seconds"),
    ({"expires_at": at(0)}, "/expires_at"),
    ({"expires_at": at(-60)}, "/expires_at"),
    ({"expires_at": at(60), "run_at": at(60)}, "/expires_at"),
    ({"expires_at": at(60), "delay_seconds": 61}, "/expires_at"),
    ({"deadline": at(-1)}, "/deadline"),
    ({"deadline": at(60), "delay_seconds": 60}, "/deadline"),
    ({"timeout_seconds": 0}, "/timeout_seconds"),
    ({"timeout_seconds": 1e9}, "/timeout_seconds"),
    ({"max_attempts": 0}, "/max_attempts"),
    ({"max_attempts": 1001}, "/max_attempts"),
    ({"max_attempts": 1.5}, "/max_attempts"),
    ({"max_attempts": True}, "/max_attempts"),
    ({"retry": 5}, "/retry"),
    ({"retry": {"base_seconds": -1}}, "/retry/base_seconds"),
    ({"retry": {"jitter": 1.1}}, "/retry/jitter"),
    ({"retry": {"multiplier": 0}}, "/retry/multiplier"),
    ({"retry": {"cap": 1}}, "/retry/cap"),
    ({"idempotency_key": ""}, "/idempotency_key"),
    ({"idempotency_key": "k" * 256}, "/idempotency_key"),
    ({"idempotency_key": "a\x00"}, "/idempotency_key"),
    ({"tags": "a"}, "/tags"),
    ({"tags": ["a"] * 17}, "/tags"),
    ({"tags": ["a", "x" * 65]}, "/tags/1"),
    ({"tags": ["a", 5]}, "/tags/1"),
    ({"tags": ["a", "b\r"]}, "/tags/1"),
    ({"headers": []}, "/headers"),
    ({"headers": TOO_MANY_HEADERS}, "/headers"),
    ({"headers": {"Upper": "x"}}, "/headers/Upper"),
    ({"headers": {"a b": "x"}}, "/headers/a b"),
    ({"headers": {"a/~": "x"}}, "/headers/a~1~0"),
    ({"headers": {"a": 5}}, "/headers/a"),
    ({"headers": {"a": "x" * 1025}}, "/headers/a"),
    ({"headers": {"a": "x\r\ny: z"}}, "/headers/a"),
    ({"id": ""}, "/id"),
    ({"id": "a/b"}, "/id"),
    ({"id": "a\n"}, "/id"),
    ({"id": "x" * 65}, "/id"),
    ({"colour": "red"}, "/colour"),
    ({"a~/b": 1}, "/a~0~1b"),
]


@pytest.mark.parametrize(("fields", "pointer"), INVALID, ids=lambda value: str(value)[:40])
def test_a_wrong_field_is_named(fields: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidTask) as caught:
        submission(**fields)
    assert caught.value.pointer == pointer
    assert len(str(caught.value)) < 250


LATE = [
    ({"run_at": at(-6)}, "/run_at"),
    ({"expires_at": at(-60)}, "/expires_at"),
    ({"deadline": at(60), "delay_seconds": 60}, "/deadline"),
    ({"run_at": at(-60), "deadline": at(-30)}, "/run_at"),
]


@pytest.mark.parametrize(("fields", "pointer"), LATE)
@pytest.mark.parametrize("name", [{"id": "a"}, {"idempotency_key": "k"}])
def test_what_may_be_a_repetition_is_late_instead(fields: dict[str, Any], pointer: str, name: dict[str, str]) -> None:
    late = submission(**fields, **name).late
    assert late is not None
    assert late.pointer == pointer


@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b'"x"', b"true"])
def test_what_is_no_object_is_no_task(body: bytes) -> None:
    with pytest.raises(InvalidTask) as caught:
        parse(body, LIMITS, NOW_MS)
    assert caught.value.pointer == ""


def test_a_task_without_a_type_misses_it() -> None:
    with pytest.raises(InvalidTask) as caught:
        parse(b"{}", LIMITS, NOW_MS)
    assert caught.value.pointer == "/type"


def test_a_payload_counts_as_json_without_the_space_around_it() -> None:
    limits = LIMITS._replace(max_payload_bytes=10)
    assert parse(b'{"type":"t","payload":          "12345678"}', limits, NOW_MS).spec.payload == "12345678"
    with pytest.raises(TaskTooLarge):
        parse(b'{"type":"t","payload":"123456789"}', limits, NOW_MS)


def test_a_batch_keeps_errors_in_their_places() -> None:
    good, bad, large = parse_many(
        b'[{"type":"t"},{"type":""},{"type":"t","payload":"' + b"x" * 300_000 + b'"}]', LIMITS, NOW_MS
    )
    assert isinstance(good, Submission)
    assert isinstance(bad, InvalidTask)
    assert bad.pointer == "/type"
    assert isinstance(large, TaskTooLarge)


GOOD_LINES = [b'{"type":"t","payload":{"a":[1,":"]}}', b' {"type":"t","id":"a"} ', b'{"type":"t","tags":["x"]}\r']
BAD_LINES = [
    b'{"type":"t"',
    b'"payload":1}',
    b'{"type":"t"},{"type":"t"}',
    b'{"type":"t"} {"type":"t"}',
    b'{"type":"t","type":"t"}',
    b'{"type":"t","payload":18446744073709551616}',
    b'{"type":"t","payload":' + b"[" * 64 + b"]" * 64 + b"}",
    b'{"type":"t","payload":"\xff"}',
    b'{"type":""}',
    b'{"type":"t","priority":"urgent"}',
    b'{"type":"t","payload":"' + b"x" * 300_000 + b'"}',
    b"5",
]


@pytest.mark.parametrize("bad", [[], *([line] for line in BAD_LINES), BAD_LINES[:2], BAD_LINES], ids=str)
def test_lines_are_taken_together_as_each_would_be_alone(bad: list[bytes]) -> None:
    lines = [*GOOD_LINES, *bad, *GOOD_LINES]
    together = [known(answer) for answer in parse_lines(lines, LIMITS, NOW_MS)]
    assert together == [known(parse_or_error(line, LIMITS, NOW_MS)) for line in lines]
    assert [isinstance(answer, Spec) for answer in together] == [True] * 3 + [False] * len(bad) + [True] * 3


def test_a_line_may_be_as_deep_as_a_body() -> None:
    deep = b'{"type":"t","payload":' + b"[" * 63 + b"]" * 63 + b"}"
    assert [type(answer) for answer in parse_lines([deep, deep], LIMITS, NOW_MS)] == [Submission, Submission]


def test_an_entry_of_an_array_may_be_as_deep_as_a_body() -> None:
    deep = b'{"type":"t","payload":' + b"[" * 63 + b"]" * 63 + b"}"
    assert [type(answer) for answer in parse_many(b"[" + deep + b"]", LIMITS, NOW_MS)] == [Submission]
    with pytest.raises(UnreadableBody, match="nested"):
        parse_many(b"[" + deep.replace(b"[]", b"[[]]") + b"]", LIMITS, NOW_MS)


def known(answer: Submission | TaskwardError) -> Spec | tuple[type[TaskwardError], str, str]:
    """All of an answer but the id, which is new every time."""
    if isinstance(answer, Submission):
        return answer.spec
    return type(answer), str(answer), getattr(answer, "pointer", "")


def test_a_batch_that_cannot_be_read_is_refused_as_a_whole() -> None:
    with pytest.raises(UnreadableBody, match="'type'"):
        parse_many(b'[{"type":"t"},{"type":"t","type":"u"}]', LIMITS, NOW_MS)
    with pytest.raises(InvalidTask):
        parse_many(b'{"type":"t"}', LIMITS, NOW_MS)


def test_an_array_of_very_many_is_to_be_a_stream() -> None:
    task = b'{"type":"t"}'
    assert len(parse_many(b"[" + b",".join([task] * MAX_TASKS) + b"]", LIMITS, NOW_MS)) == MAX_TASKS
    with pytest.raises(TaskTooLarge, match="stream"):
        parse_many(b"[" + b",".join([task] * (MAX_TASKS + 1)) + b"]", LIMITS, NOW_MS)
