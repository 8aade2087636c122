"""The fast lane says what the Quart route says, and leaves everything else to it."""

import json
from typing import Any

import pytest
import trio
import trio.testing

from taskward.api import fast_lane
from taskward.events import HttpAnswered
from tests.api.conftest import Api, Open

PLAIN = {"Host": "localhost", "Content-Type": "application/json"}
# With this header the request is not plain, and goes by Quart; it means the same.
BY_QUART = {"TE": "trailers"}


def request(body: bytes, headers: dict[str, str], *, path: str = "/tasks") -> bytes:
    lines = "".join(f"{k}: {v}\r\n" for k, v in {**headers, "Content-Length": str(len(body))}.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


async def read_answer(stream: trio.SocketStream, rest: bytearray) -> tuple[int, dict[str, str], Any]:
    """The next response: status, headers in lower case, JSON."""
    with trio.fail_after(5):
        while b"\r\n\r\n" not in rest:
            rest += (await stream.receive_some()) or pytest.fail(f"closed after {bytes(rest)!r}")
        head, _, _ = bytes(rest).partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        end = len(head) + 4 + int(headers["content-length"])
        while len(rest) < end:
            rest += await stream.receive_some()
        body = bytes(rest[len(head) + 4 : end])
        del rest[:end]
    return int(status.split()[1]), headers, json.loads(body)


async def ask(api: Api, *requests: bytes) -> list[tuple[int, dict[str, str], Any]]:
    """All of them at once on one connection."""
    rest = bytearray()
    async with await trio.open_tcp_stream("127.0.0.1", api.port) as stream:
        await stream.send_all(b"".join(requests))
        return [await read_answer(stream, rest) for _ in requests]


BODIES = {
    "fine": b'{"type": "echo", "id": "same"}',
    "not JSON": b"{",
    "not UTF-8": b'{"type": "\xff"}',
    "a key twice": b'{"type": "a", "type": "b"}',
    "deep": b'{"type": "a", "payload": ' + b"[" * 200 + b"]" * 200 + b"}",
    "unknown field": b'{"type": "a", "colour": 1}',
    "unknown priority": b'{"type": "a", "priority": "urgent"}',
    "no type": b"{}",
    "a list": b"[]",
    "many": b'[{"type": "echo", "id": "a"}, {"type": ""}, 5, {"type": "other", "id": "a"}]',
    "empty": b"",
}


@pytest.mark.parametrize("path", ["/tasks", "/tasks/batch"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_both_lanes_give_the_same_answer(
    api: Api, path: str, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    original = fast_lane._answer

    async def noted(*args: Any) -> Any:
        taken.append(args)
        return await original(*args)

    monkeypatch.setattr(fast_lane, "_answer", noted)
    ((fast_status, fast_headers, fast_body),) = await ask(api, request(body, PLAIN, path=path))
    assert len(taken) == 1
    ((status, headers, answer),) = await ask(api, request(body, PLAIN | BY_QUART, path=path))
    assert len(taken) == 1
    if "results" in answer and body == BODIES["many"]:
        assert (fast_body.pop("counts"), answer.pop("counts")) == (counts(created=1), counts(duplicates=1))
        assert (fast_body["results"][0].pop("status"), answer["results"][0].pop("status")) == (202, 200)
    elif path == "/tasks" and status == 200:  # the second of two equal submissions is a replay
        assert (fast_status, fast_body.pop("created"), answer.pop("created")) == (202, True, False)
    else:
        assert fast_status == status
    assert fast_body == answer
    differing = {"date", "connection", "keep-alive"}
    assert set(fast_headers) - differing == set(headers) - differing
    assert {k: v for k, v in fast_headers.items() if k in headers and k not in {*differing, "content-length"}} == {
        k: v for k, v in headers.items() if k not in {*differing, "content-length"}
    }


def counts(*, created: int = 0, duplicates: int = 0) -> dict[str, int]:
    return {"created": created, "duplicates": duplicates, "refused": 3}


async def test_pipelined_requests_are_answered_in_order_across_the_lanes(api: Api) -> None:
    answers = await ask(
        api,
        request(b'{"type": "a", "id": "1"}', PLAIN),
        request(b'{"type": "a", "id": "2"}', PLAIN),
        request(b'{"type": "a", "id": "3"}', PLAIN | BY_QUART),
        b"GET /tasks/1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        request(b'{"type": "a", "id": "4"}', PLAIN),
    )
    assert [body["id"] for _, _, body in answers] == ["1", "2", "3", "1", "4"]
    assert await api.stored() == 4


async def test_a_request_in_pieces_is_one_request(api: Api) -> None:
    whole = request(b'{"type": "a", "id": "slow"}', PLAIN)
    rest = bytearray()
    async with await trio.open_tcp_stream("127.0.0.1", api.port) as stream:
        for n in range(0, len(whole), 7):
            await stream.send_all(whole[n : n + 7])
            await trio.testing.wait_all_tasks_blocked()
        assert (await read_answer(stream, rest))[2]["id"] == "slow"


async def test_a_head_that_does_not_end_is_not_waited_for(open_api: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_lane, "HEAD_SECONDS", 0.1)
    async with open_api() as api, await trio.open_tcp_stream("127.0.0.1", api.port) as stream:
        await stream.send_all(b"POST /tasks HTTP/1.1\r\nHost: lo")
        with trio.fail_after(5):
            assert await stream.receive_some() == b""
        assert await api.stored() == 0


async def test_a_client_that_leaves_in_the_middle_stores_nothing(api: Api) -> None:
    whole = request(b'{"type": "a", "id": "half"}', PLAIN)
    async with await trio.open_tcp_stream("127.0.0.1", api.port) as stream:
        await stream.send_all(whole[:-5])
        await stream.send_eof()
        with trio.move_on_after(5):
            while await stream.receive_some():
                pass
    assert await api.stored() == 0


async def test_a_stop_closes_idle_connections_and_lets_the_others_finish(open_api: Open) -> None:
    async with open_api() as api:
        rest = bytearray()
        stream = await trio.open_tcp_stream("127.0.0.1", api.port)
        await stream.send_all(request(b'{"type": "a"}', PLAIN))
        assert (await read_answer(stream, rest))[0] == 202
        api.stop.set()
        with trio.fail_after(5):
            assert await stream.receive_some() == b""


async def test_it_tells_of_what_it_answers(api: Api) -> None:
    await ask(api, request(b'{"type": "a"}', PLAIN), request(b"{", PLAIN), request(b"[]", PLAIN, path="/tasks/batch"))
    told = [(event.method, event.route, event.status) for event in api.events if isinstance(event, HttpAnswered)]
    assert told == [("POST", "/tasks", 202), ("POST", "/tasks", 400), ("POST", "/tasks/batch", 200)]


async def test_a_bug_is_a_problem_here_too(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(fast_lane, "accept_task", broken)
    ((status, _, body),) = await ask(api, request(b'{"type": "a"}', PLAIN))
    assert (status, body["type"]) == (500, "/problems/internal")
    assert "secret" not in json.dumps(body)
    assert "secret" in caplog.text
