"""Many tasks in one request: arrays and streams, one result each."""

import json
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
import trio

from taskward.api.batch import whole_lines
from taskward.client import gateway
from taskward.errors import BrokerUnavailable
from taskward.events import BrokerCalled, SubmissionRefused, TasksSubmitted
from tests.api.conftest import Api, Open

NDJSON = {"Content-Type": "application/x-ndjson"}


def lines(*tasks: Any) -> bytes:
    return b"".join(json.dumps(task).encode() + b"\n" for task in tasks)


async def stream(api: Api, body: bytes | AsyncIterator[bytes]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """-> results, counts."""
    answer = await api.http.post("/tasks/batch", content=body, headers=NDJSON)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    *results, last = [json.loads(line) for line in answer.text.splitlines()]
    return results, last["counts"]


MIXED: list[Any] = [
    {"type": "echo", "id": "a"},
    {"type": "echo", "id": "a"},
    {"type": "echo", "id": "a", "payload": "another"},
    {"type": "echo", "id": "b", "priority": "high"},
    {"type": "echo", "priority": "urgent"},
    "no task",
    {"type": "echo", "payload": "x" * 262_144},
]
MIXED_STATUS = [202, 200, 409, 202, 422, 422, 413]
MIXED_COUNTS = {"created": 2, "duplicates": 1, "refused": 4}


async def test_an_array_gets_a_result_a_task(api: Api) -> None:
    answer = await api.http.post("/tasks/batch", json=MIXED)
    assert answer.status_code == 200
    body = answer.json()
    assert body["counts"] == MIXED_COUNTS
    assert [result["status"] for result in body["results"]] == MIXED_STATUS
    assert body["results"][0] == {"index": 0, "status": 202, "id": "a"}
    problem = body["results"][4]["problem"]
    assert (problem["type"], problem["pointer"], problem["status"]) == ("/problems/invalid", "/priority", 422)
    assert await api.stored() == 2
    assert TasksSubmitted("default", 1, 1, 4) in api.events
    assert TasksSubmitted("high", 1, 0, 4) in api.events
    refused = [event.reason for event in api.events if isinstance(event, SubmissionRefused)]
    assert refused == ["conflict", "invalid", "invalid", "too-large"]


async def test_a_stream_gets_a_result_a_line(api: Api) -> None:
    results, counts = await stream(api, lines(*MIXED))
    assert counts == MIXED_COUNTS
    assert [result["status"] for result in results] == MIXED_STATUS
    assert [result["index"] for result in results] == list(range(7))
    assert await api.stored() == 2


async def test_a_line_that_cannot_be_read_is_a_result(api: Api) -> None:
    body = b'{"type":"echo"}\r\n\n  \n{"type":"echo","type":"x"}\n{\n[1]\n\xff\n{"type":"echo"}'
    results, counts = await stream(api, body)
    assert [result["status"] for result in results] == [202, 400, 400, 422, 400, 202]
    assert counts == {"created": 2, "duplicates": 0, "refused": 4}


async def test_an_array_that_cannot_be_read_stores_nothing(api: Api) -> None:
    for body, status in ((b'[{"type":"echo"},{"type":"a","type":"b"}]', 400), (b'[{"type":"echo"}', 400), (b"{}", 422)):
        answer = await api.http.post("/tasks/batch", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == status
    assert await api.stored() == 0


async def test_an_empty_batch_is_a_batch(api: Api) -> None:
    answer = await api.http.post("/tasks/batch", json=[])
    assert answer.json() == {"counts": {"created": 0, "duplicates": 0, "refused": 0}, "results": []}
    assert await stream(api, b"") == ([], {"created": 0, "duplicates": 0, "refused": 0})


async def test_many_tasks_go_into_the_store_by_the_hundreds(api: Api) -> None:
    answer = await api.http.post("/tasks/batch", json=[{"type": "echo"}] * 1200)
    assert answer.json()["counts"]["created"] == 1200
    assert await api.stored() == 1200
    assert sum(isinstance(event, BrokerCalled) and event.op == "submit" for event in api.events) == 3


async def test_a_stream_is_answered_while_it_comes(api: Api) -> None:
    send, receive = trio.open_memory_channel[bytes](0)
    answered: list[int] = []

    async def ask() -> None:
        async with api.http.stream("POST", "/tasks/batch", content=parts(), headers=NDJSON) as answer:
            async for line in answer.aiter_lines():
                answered.append(json.loads(line).get("index", -1))

    async def parts() -> AsyncIterator[bytes]:
        async with receive:
            async for part in receive:
                yield part

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        for n in range(3):
            await send.send(lines({"type": "echo", "id": str(n)}))
            await api.events.wait_for(
                lambda event, n=n: sum(isinstance(e, TasksSubmitted) for e in api.events) > n  # type: ignore[misc]
            )
        await send.aclose()
    assert answered == [0, 1, 2, -1]


async def test_a_client_that_reads_only_after_it_has_sent_is_served(api: Api) -> None:
    results, counts = await stream(api, chunked([lines(*[{"type": "echo"}] * 64)] * 500))
    assert (len(results), counts["created"]) == (32_000, 32_000)
    assert await api.stored() == 32_000


async def test_a_full_queue_refuses_what_is_too_much(open_api: Open) -> None:
    async with open_api(max_queue_depth=2) as api:
        results, counts = await stream(api, lines(*[{"type": "echo", "priority": "high"}] * 3))
        assert [result["status"] for result in results] == [202, 202, 429]
        assert counts == {"created": 2, "duplicates": 0, "refused": 1}


async def test_a_line_longer_than_a_body_may_be_is_a_result(open_api: Open) -> None:
    async with open_api(max_body_bytes=1024) as api:
        long = b'{"type":"echo","payload":"' + b"x" * 3_000_000 + b'"}\n'
        results, _ = await stream(api, lines({"type": "echo"}) + long + lines({"type": "echo"}))
        assert [result["status"] for result in results] == [202, 413, 202]


async def test_an_outage_is_the_result_of_what_it_meets(open_api: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "PATIENCE_SECONDS", 0.0)
    async with open_api() as api:
        await meet_an_outage(api, monkeypatch)


async def meet_an_outage(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    store = api.broker.store

    async def failing(packed: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise BrokerUnavailable
        return await store(packed)

    monkeypatch.setattr(api.broker, "store", failing)
    answer = await api.http.post("/tasks/batch", json=[{"type": "echo"}] * 600)
    assert [result["status"] for result in answer.json()["results"]] == [202] * 512 + [503] * 88
    answer = await api.http.post("/tasks/batch", json=[{"type": "echo"}] * 600)
    assert answer.status_code == 503
    results, counts = await stream(api, lines({"type": "echo"}, {"type": ""}))
    assert [result["status"] for result in results] == [503, 422]
    assert counts == {"created": 0, "duplicates": 0, "refused": 2}
    assert await api.stored() == 512


async def chunked(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
async def test_lines_are_found_however_they_are_cut(size: int) -> None:
    text = b"one\n\ntwo\r\n  \nthree"
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    found = [line async for some in whole_lines(chunked(parts), most=100) for line in some]
    assert [line.strip() for line in found] == [b"one", b"two", b"three"]


async def test_of_a_line_too_long_little_is_kept() -> None:
    parts = [b"a\n" + b"x" * 50, b"x" * 50, b"x" * 50 + b"\nb\n"]
    found = [some async for some in whole_lines(chunked(parts), most=10)]
    assert [[len(line) for line in some] for some in found] == [[1], [11, 1]]


async def test_a_long_line_byte_by_byte_costs_no_more_than_a_short_one() -> None:
    async def cpu_seconds(beginning: bytes, *, most: int) -> float:
        parts = [beginning, *([b"x"] * 20_000), b"\n"]
        began = time.process_time()
        found = [line async for some in whole_lines(chunked(parts), most=most) for line in some]
        assert [len(line) for line in found] == [min(len(beginning) + 20_000, most + 1)]
        return time.process_time() - began

    short = await cpu_seconds(b"x", most=100_000)
    assert await cpu_seconds(b"x" * 1_000_000, most=1_000_000) < 20 * short
    assert await cpu_seconds(b"x" * 1_000_000, most=2_000_000) < 20 * short
