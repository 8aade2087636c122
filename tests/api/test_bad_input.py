"""Every kind of bad input: a problem that names what is wrong, and nothing stored."""

import json
from typing import Any

import pytest

from taskward.events import SubmissionRefused
from tests.api.conftest import Api

PAST, LATER, FAR = "2020-01-01T00:00:00Z", "2199-01-01T00:00:00Z", "9999-12-31T23:59:59Z"


def task(**fields: Any) -> bytes:
    return json.dumps({"type": "echo", **fields}).encode()


def raw(payload: bytes) -> bytes:
    return b'{"type":"echo","payload":' + payload + b"}"


BODIES: list[tuple[str, bytes, int, str, str | None]] = [
    ("not JSON", b"type=echo", 400, "unreadable-body", None),
    ("empty", b"", 400, "unreadable-body", None),
    ("cut short", b'{"type":"ec', 400, "unreadable-body", None),
    ("more than one value", task() + task(), 400, "unreadable-body", None),
    ("NaN", raw(b"NaN"), 400, "unreadable-body", None),
    ("a float too large", raw(b"1e999"), 400, "unreadable-body", None),
    ("an integer too large", raw(b"18446744073709551616"), 400, "unreadable-body", None),
    ("5,000 digits", raw(b"1" * 5000), 400, "unreadable-body", None),
    ("invalid UTF-8", raw(b'"\xff\xfe"'), 400, "unreadable-body", None),
    ("a lone surrogate", raw(b'"\\udc00"'), 400, "unreadable-body", None),
    ("a byte order mark", b"\xef\xbb\xbf" + task(), 400, "unreadable-body", None),
    ("UTF-16", task().decode().encode("utf-16"), 400, "unreadable-body", None),
    ("nesting 10,000 deep", raw(b"[" * 10_000 + b"]" * 10_000), 400, "unreadable-body", None),
    ("nesting 65 deep", raw(b"[" * 64 + b"]" * 64), 400, "unreadable-body", None),
    ("a key twice", b'{"type":"echo","type":"echo"}', 400, "unreadable-body", None),
    ("a key twice, inside", raw(b'{"a":1,"a":1}'), 400, "unreadable-body", None),
    ("10 MiB", raw(b'"' + b"x" * 10_485_760 + b'"'), 413, "too-large", None),
    ("a payload too large", raw(b'"' + b"x" * 262_143 + b'"'), 413, "too-large", None),
    ("an array", b"[]", 422, "invalid", ""),
    ("null", b"null", 422, "invalid", ""),
    ("no type", b"{}", 422, "invalid", "/type"),
    ("a type that is none", task(type=5), 422, "invalid", "/type"),
    ("an unknown field", task(colour="red"), 422, "invalid", "/colour"),
    ("an unknown priority", task(priority="urgent"), 422, "invalid", "/priority"),
    ("a wrong type, inside", task(retry={"jitter": "x"}), 422, "invalid", "/retry/jitter"),
    ("an unknown field, inside", task(retry={"colour": 1}), 422, "invalid", "/retry/colour"),
    ("out of range", task(max_attempts=0), 422, "invalid", "/max_attempts"),
    ("run_at in the past", task(run_at=PAST), 422, "invalid", "/run_at"),
    ("expires_at in the past", task(expires_at=PAST), 422, "invalid", "/expires_at"),
    ("deadline in the past", task(deadline=PAST), 422, "invalid", "/deadline"),
    ("an instant without offset", task(run_at="2199-01-01T00:00:00"), 422, "invalid", "/run_at"),
    ("an instant too far ahead", task(run_at=FAR), 422, "invalid", "/run_at"),
    ("expiry before the start", task(delay_seconds=60, expires_at=PAST), 422, "invalid", "/expires_at"),
    ("two starts", task(delay_seconds=60, run_at=LATER), 422, "invalid", "/delay_seconds"),
    ("an id that is a path", task(id="../x"), 422, "invalid", "/id"),
    ("a tag that breaks lines", task(tags=["a\nb"]), 422, "invalid", "/tags/0"),
    ("a header that breaks lines", task(headers={"a": "b\r\nc: d"}), 422, "invalid", "/headers/a"),
]
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(("body", "status", "word", "pointer"), [b[1:] for b in BODIES], ids=[b[0] for b in BODIES])
async def test_bad_input_is_named_and_not_stored(
    api: Api, body: bytes, status: int, word: str, pointer: str | None
) -> None:
    answer = await api.http.post("/tasks", content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["type"], problem["status"]) == (f"/problems/{word}", status)
    assert problem.get("pointer") == pointer
    assert len(answer.content) < 1000
    assert SubmissionRefused(word) in api.events
    assert await api.stored() == 0


async def test_what_is_named_is_the_key_that_stands_twice(api: Api) -> None:
    answer = await api.http.post("/tasks", content=raw(b'{"colour":1,"colour":2}'), headers=JSON)
    assert "'colour'" in answer.json()["detail"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/xml"])
async def test_only_json_is_taken(api: Api, content_type: str) -> None:
    for path in ("/tasks", "/tasks/batch", "/dlq/redrive"):
        answer = await api.http.post(path, content=task(), headers={"Content-Type": content_type})
        assert answer.status_code == 415
        assert answer.json()["type"] == "/problems/unsupported-media-type"
    assert await api.stored() == 0


async def test_a_body_that_does_not_say_its_length_is_limited_too(api: Api) -> None:
    async def parts() -> Any:
        for _ in range(160):
            yield b" " * 65_536

    answer = await api.http.post("/tasks", content=parts(), headers=JSON)
    assert answer.status_code == 413
    assert answer.json()["type"] == "/problems/too-large"


async def test_a_wrong_method_is_told_the_right_ones(api: Api) -> None:
    answer = await api.http.delete("/tasks/x/cancel")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert answer.json()["type"] == "/problems/method-not-allowed"


async def test_nothing_is_a_problem_too(api: Api) -> None:
    for path in ("/console", "/tasks/", "/tasks/a/b/c", "/static/x", "/tasks/%2e%2e/x"):
        answer = await api.http.get(path)
        assert answer.status_code == 404
        assert answer.json()["type"] == "/problems/not-found"
