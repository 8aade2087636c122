"""What two readers of JSON could understand differently is refused."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskward.config import Config
from taskward.errors import InvalidTask, UnreadableBody
from taskward.submission import MAX_DEPTH, Limits, parse

NOW_MS = 1_800_000_000_000
LIMITS = Limits.of(Config())


def nested(depth: int) -> bytes:
    return b'{"type":"t","payload":' + b"[" * depth + b"]" * depth + b"}"


UNREADABLE: list[tuple[bytes, str]] = [
    (b"", "truncated"),
    (b"{", "truncated"),
    (b'{"type":"t",}', "trailing comma"),
    (b'{"type":"t"} {}', "trailing characters"),
    (b"{'type':'t'}", "malformed"),
    (b'{"type":"t","payload":NaN}', "invalid character"),
    (b'{"type":"t","payload":Infinity}', "invalid character"),
    (b'{"type":"t","payload":1e999}', "out of range"),
    (b'{"type":"t","payload":' + b"9" * 5000 + b"}", "out of range"),
    (b'{"type":"t","payload":"\xff"}', "UTF-8"),
    (b'{"type":"t","payload":"\\ud800"}', "truncated"),
    (b'{"type":"t","payload":"\\ud800x     "}', "surrogate"),
    (b'{"type":"t","payload":"\\udc00"}', "surrogate"),
    (b'\xef\xbb\xbf{"type":"t"}', "invalid character"),
    ('{"type":"t"}'.encode("utf-16"), "invalid character"),
    (nested(MAX_DEPTH), "nested"),
    (nested(500), "nested"),
    (nested(10_000), "nested"),
    (b"[" * 1_000_000, "nested"),
    (b'{"type":"t","type":"u"}', "'type'"),
    (b'{"type":"t","type":"t"}', "'type'"),
    (b'{"type":"t","payload":{"a":1,"b":[{"c":1,"c":2}]}}', "'c'"),
    (b'{"type":"t","payload":{"a" :1,"a":2}}', "'a'"),
    (b'{"type":"t","payload":{"a":1,"a"\n:2}}', "'a'"),
    (b'{"type":"t","payload":{"a":1,"\\u0061":2}}', "'a'"),
    (b'{"type":"t","payload":{"a":"\\u0022:","a":"\\":"}}', "'a'"),
    (b'{"type":"t","payload":{"a":":","a":":x"}}', "'a'"),
    (b'{"type":"t","payload":{"a":1,"a":"\\u003a"}}', "'a'"),
    (b'{"type":"t","payload":{"a":1,"a":"\\u003A"}}', "'a'"),
    (b'{"type":"t","payload":{"deep":[0,18446744073709551616]}}', "/payload/deep/1"),
    (b'{"type":"t","payload":-9223372036854775809}', "/payload"),
    (b'{"type":"t","max_attempts":123456789012345678901234567890}', "/max_attempts"),
]


@pytest.mark.parametrize(("body", "named"), UNREADABLE, ids=lambda value: str(value)[:40])
def test_what_is_not_strict_json_is_refused(body: bytes, named: str) -> None:
    with pytest.raises(UnreadableBody, match=named):
        parse(body, LIMITS, NOW_MS)


@pytest.mark.parametrize(
    "payload",
    [
        b"18446744073709551615",
        b"-9223372036854775808",
        b"12345678901234567890.5",
        b'"12345678901234567890123"',
        b'"[[[[{{{{" ',
        b'{"a":":","b":"\\":","c":" :","d\\\\":1}',
        b'{"a":"\\u003a","b" : "\\u003b"}',
        b'["[\\\\","]\\"[","' + b"[" * 100 + b'"]',
        b'{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}',
        b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1),
        b'"' + b"[" * 100 + b'"',
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_only_looks_suspicious_is_taken(payload: bytes) -> None:
    given = parse(b'{"type":"t","payload":' + payload + b"}", LIMITS, NOW_MS)
    assert given.spec.payload == json.loads(payload)


ATOMS = st.sampled_from(["1", '"a"', '":"', '"\\""', '"\\":"', '"\\u0022:"', '" :"', "null", '"\\\\"', "{}", "[]"])
KEYS = st.sampled_from(['"a"', '"b"', '"\\u0061"', '":"', '"\\":"', '"a\\\\"', '"\\u003a"'])
COLONS = st.sampled_from([":", " :", ": ", "\t:", "\n:\r"])


def texts(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.tuples(KEYS, COLONS, inner).map("".join)
    return st.one_of(
        st.lists(pairs, max_size=4).map(lambda parts: "{" + ",".join(parts) + "}"),
        st.lists(inner, max_size=3).map(lambda parts: "[" + ", ".join(parts) + "]"),
    )


def has_duplicates(text: str) -> bool:
    seen = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen.append(len(pairs) != len(dict(pairs)))
        return dict(pairs)

    json.loads(text, object_pairs_hook=look)
    return any(seen)


@given(st.recursive(ATOMS, texts, max_leaves=12))
def test_a_key_that_stands_twice_is_found_wherever_it_hides(text: str) -> None:
    body = f'{{"type":"t","payload":{text}}}'.encode()
    if has_duplicates(text):
        with pytest.raises(UnreadableBody):
            parse(body, LIMITS, NOW_MS)
    else:
        assert parse(body, LIMITS, NOW_MS).spec.payload == json.loads(text)


@given(st.binary(max_size=60))
def test_no_bytes_do_worse_than_a_named_error(body: bytes) -> None:
    with contextlib.suppress(UnreadableBody, InvalidTask):
        parse(body, LIMITS, NOW_MS)


@pytest.mark.parametrize("brackets", ["[]", "{}", "mixed"])
@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
def test_depth_is_counted_exactly(brackets: str, depth: int) -> None:
    value: Any = ']]]]\\"[[[['
    for level in range(depth - 1):
        value = {"]": value} if brackets == "{}" or (brackets == "mixed" and level % 2) else [0, value, "["]
    body = json.dumps({"type": "t", "payload": value}).encode()
    if depth <= MAX_DEPTH:
        assert parse(body, LIMITS, NOW_MS).spec.payload == value
    else:
        with pytest.raises(UnreadableBody, match="nested"):
            parse(body, LIMITS, NOW_MS)
