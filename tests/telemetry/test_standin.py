"""The stand-in, asked through a socket while the loop does nothing else."""

import socket

import msgspec
import pytest
import trio

from taskward.telemetry.standin import standing_in


def ask(port: int, text: bytes) -> socket.socket:
    """A client that has asked, and waits."""
    client = socket.create_connection(("127.0.0.1", port), timeout=5)
    client.sendall(text)
    return client


def heard(client: socket.socket) -> tuple[bytes, bytes]:
    """Status line and body, once the connection is closed."""
    with client:
        text = b""
        while part := client.recv(4096):
            text += part
    head, _, body = text.partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    return head.partition(b"\r\n")[0], body


@pytest.fixture
async def listener():
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        yield listener


async def test_it_says_that_the_loop_is_blocked(listener):
    port = listener.socket.getsockname()[1]
    with standing_in([listener]) as answer:
        asked = [ask(port, b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"), ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")]
        answer(1.0)
        for client in asked:
            status, body = heard(client)
            assert status == b"HTTP/1.1 503 Service Unavailable"
            assert msgspec.json.decode(body) == {"ready": False, "reasons": {"loop_blocked": True}}


async def test_the_process_lives_all_the_same(listener):
    port = listener.socket.getsockname()[1]
    with standing_in([listener]) as answer:
        clients = [ask(port, method + b" /healthz HTTP/1.1\r\n\r\n") for method in (b"GET", b"HEAD")]
        answer(1.0)
        assert [heard(client) for client in clients] == [(b"HTTP/1.1 200 OK", b"alive\n"), (b"HTTP/1.1 200 OK", b"")]


async def test_a_client_that_says_nothing_takes_no_longer_than_allowed(listener):
    port = listener.socket.getsockname()[1]
    with standing_in([listener]) as answer:
        began = trio.current_time()
        answer(0.1)  # nobody is there
        assert trio.current_time() - began < 0.1
        with ask(port, b""), ask(port, b""):
            answer(0.1)
        assert trio.current_time() - began < 1.0


async def test_afterwards_the_loop_answers_again(listener):
    port = listener.socket.getsockname()[1]
    with standing_in([listener]) as answer:
        answer(0.01)
        with ask(port, b"hello"):
            async with await listener.accept() as stream:
                assert await stream.receive_some() == b"hello"
    with ask(port, b"still"):  # its own sockets are closed, the listener is not
        async with await listener.accept() as stream:
            assert await stream.receive_some() == b"still"
