"""One connection: what hypercorn and quart-trio do wrong by themselves, and what we made of it."""

from pathlib import Path

import pytest
import trio
import trio.testing

from taskward.api import connection, server
from taskward.api.connection import BUFFER_BYTES, RequestBody
from taskward.client import gateway
from taskward.events import BrokerCalled, HttpAnswered
from tests.api.conftest import Api, Open

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n%s\r\n"


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def answer_to(stream: trio.SocketStream, request: bytes) -> bytes:
    """Send, and read until a whole small answer is there."""
    await stream.send_all(request)
    head = b""
    with trio.fail_after(10):
        while b"}" not in head:
            more = await stream.receive_some()
            assert more, head
            head += more
    return head


async def until_closed(stream: trio.SocketStream) -> bytes:
    """Everything up to the end."""
    with trio.fail_after(5):
        return b"".join([part async for part in stream])


async def test_connection_close_is_honoured(api: Api) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", api.port)
    assert b"200" in await answer_to(stream, GET % b"Connection: close\r\n")
    assert await until_closed(stream) == b""


async def test_an_idle_connection_is_closed_after_its_first_answer_too(
    open_api: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_SECONDS", 0.05)
    async with open_api() as api:
        silent = await trio.open_tcp_stream("127.0.0.1", api.port)
        once = await trio.open_tcp_stream("127.0.0.1", api.port)
        await answer_to(once, GET % b"")
        assert await until_closed(silent) == b""
        assert await until_closed(once) == b""


async def test_many_idle_clients_leave_no_descriptors_behind(open_api: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_SECONDS", 0.2)
    async with open_api() as api:
        before = open_files()
        streams = []
        for _ in range(100):
            streams.append(await trio.open_tcp_stream("127.0.0.1", api.port))
            await answer_to(streams[-1], GET % b"")
        for stream in streams:
            await until_closed(stream)
            await stream.aclose()
        with trio.fail_after(5):
            while open_files() > before + 10:  # a few are of Redis; the server closes its ends a moment after ours
                await trio.sleep(0.01)


async def test_a_connection_is_kept_for_the_next_request(api: Api) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", api.port)
    for _ in range(3):
        assert b"200" in await answer_to(stream, GET % b"")


async def test_the_answer_reaches_a_client_that_reads_after_it_has_sent(api: Api) -> None:
    size = 10 * 1024 * 1024
    stream = await trio.open_tcp_stream("127.0.0.1", api.port)
    head = b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    answer = await answer_to(stream, head % size + b" " * size)
    assert b" 413 " in answer.splitlines()[0]


async def test_a_client_that_leaves_ends_its_wait(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "LONGEST_LOOK_SECONDS", 0.01)

    def looks() -> int:
        return sum(isinstance(event, BrokerCalled) and event.op == "get" for event in api.events)

    id = await api.submit()
    stream = await trio.open_tcp_stream("127.0.0.1", api.port)
    await stream.send_all(f"GET /tasks/{id}?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await api.events.wait_for(lambda event: isinstance(event, BrokerCalled) and event.op == "get")
    await stream.aclose()
    with trio.fail_after(5):
        before = -1
        while before != looks():  # nobody looks for the time of ten looks
            before = looks()
            await trio.sleep(0.1)


async def test_a_body_is_taken_no_faster_than_it_is_read() -> None:
    body = RequestBody(None, None)
    put = 0

    async def feed() -> None:
        nonlocal put
        for _ in range(64):
            await body.put(b"x" * 65_536, last=False)
            put += 65_536
        await body.put(b"", last=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed)
        await trio.testing.wait_all_tasks_blocked()
        assert put <= BUFFER_BYTES
        read = 0
        async for chunk in body.chunks():
            assert len(chunk) <= BUFFER_BYTES + 65_536
            read += len(chunk)
    assert read == 64 * 65_536


async def test_what_nobody_wants_is_thrown_away() -> None:
    body = RequestBody(None, None)

    async def feed() -> None:
        for _ in range(64):
            await body.put(b"x" * 65_536, last=False)
        await body.put(b"", last=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed)
        with trio.fail_after(1):
            await body.drain()


async def test_a_body_that_does_not_come_is_not_waited_for(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BODY_SECONDS", 0.05)
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.05)
    stream = await trio.open_tcp_stream("127.0.0.1", api.port)
    head = b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
    answer = await answer_to(stream, head)
    assert b" 408 " in answer.splitlines()[0]
    assert b"/problems/request-timeout" in answer
    assert await until_closed(stream) == b""


async def test_a_client_that_does_not_read_is_given_up(open_api: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "UNREAD_SECONDS", 1)
    async with open_api() as api:
        for _ in range(40):
            await api.submit(payload="x" * 250_000)
        stream = await trio.open_tcp_stream("127.0.0.1", api.port)
        await stream.send_all(b"GET /tasks HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await api.events.wait_for(lambda event: isinstance(event, HttpAnswered) and event.method == "GET")
        api.stop.set()  # the server does not end before its connections do, nor does this block


async def test_a_stream_that_stops_is_not_waited_for(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STREAM_IDLE_SECONDS", 0.05)
    stream = await trio.open_tcp_stream("127.0.0.1", api.port)
    head = b"POST /tasks/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
    answer = await answer_to(stream, head + b'Content-Length: 50\r\n\r\n{"type":"echo"}\n')
    answer += await until_closed(stream)
    assert b'"status":202' in answer
    assert b'"counts":{"created":1,"duplicates":0,"refused":0},"problem"' in answer
    assert b"/problems/request-timeout" in answer
