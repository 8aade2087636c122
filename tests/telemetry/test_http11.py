"""HTTP/1.1: what is allowed is answered in order, what is not is refused, and nobody may be slow or large for ever."""

from contextlib import suppress
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from taskward import http11
from taskward.http11 import Limits, Request, Response

from .client import Client, connected

LIMITS = Limits(idle_seconds=60, head_seconds=10, write_seconds=30, head_bytes=2000, headers=8)
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


async def echo(request: Request) -> Response:
    return Response(200, request.method.encode() + b" " + request.target)


@pytest.fixture
def conversation(nursery):
    """A client whose other end is being served, in memory."""

    def begin(answer=echo, **kwargs):
        ours, theirs = trio.testing.memory_stream_pair()

        async def serve():
            await http11.serve_connection(theirs, answer, limits=LIMITS, **kwargs)
            await theirs.aclose()

        nursery.start_soon(serve)
        return Client(ours)

    return begin


async def test_requests_on_one_connection_are_answered_in_turn(conversation):
    client = conversation()
    for target in ("/a", "/b?c=d"):
        answer = await client.get(target)
        assert (answer.status, answer.body) == (200, f"GET {target}".encode())
        assert "Connection" not in answer.headers
        assert answer.headers["Date"].endswith("GMT")


async def test_a_request_may_come_in_any_pieces(conversation):
    client = conversation()
    for byte in b"\r\nDELETE /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n":
        await client.send(bytes([byte]))
    assert (await client.answer()).body == b"DELETE /a"


async def test_pipelined_requests_are_answered_in_order(conversation):
    client = conversation()
    await client.send(GET * 3 + b"PUT /p HTTP/1.1\r\nHost: x\r\n\r\nGET /last HT")
    bodies = [(await client.answer()).body for _ in range(4)]
    assert bodies == [b"GET /a"] * 3 + [b"PUT /p"]
    await client.send(b"TP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.answer()).body == b"GET /last"


async def test_what_came_before_a_malformed_request_is_answered_first(conversation):
    client = conversation()
    await client.send(GET + b"nonsense\r\n\r\n")
    assert (await client.answer()).status == 200
    assert (await client.answer()).status == 400
    assert await client.ended()


async def test_an_answer_may_be_empty(conversation):
    async def answer(request):
        return Response(204)

    reply = await conversation(answer).get("/")
    assert reply.status == 204
    assert "Content-Length" not in reply.headers


async def test_head_gets_the_length_and_no_body(conversation):
    client = conversation()
    answer = await client.get("/a", method="HEAD")
    assert answer.headers["Content-Length"] == "7"
    assert (await client.get("/b")).body == b"GET /b"


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_the_last_request_is_answered_and_the_connection_closed(conversation, head):
    client = conversation()
    await client.send(head)
    answer = await client.answer()
    assert (answer.status, answer.headers["Connection"], answer.body) == (200, "close", b"GET /")
    assert await client.ended()


async def serving(nursery, limits) -> int:
    """-> the port."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(partial(http11.serve, echo, listeners, limits=limits))
    return listeners[0].socket.getsockname()[1]


MALFORMED = {
    "nonsense": (b"nonsense\r\n\r\n", 400),
    "no version": (b"GET /\r\n\r\n", 505),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    "folded header": (b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
    "space before colon": (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    "NUL in a header": (b"GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", 400),
    "space in the target": (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "bytes in the target": (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    "length and chunks": (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "signed length": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc", 400),
    "length list": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 3\r\n\r\nabc", 400),
    "huge length": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
    "unknown coding": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nabc", 413),
    "a body": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", 413),
    "a body in chunks": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 413),
    "a body that waits": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n", 413),
    "upgrade with a body": (
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\na",
        413,
    ),
    "target too long": (b"GET /" + b"a" * 2001 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
    "headers too long": (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 2001 + b"\r\n\r\n", 431),
    "too many headers": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 8 + b"\r\n", 431),
}


@pytest.mark.parametrize(("data", "status"), MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("piece", [1, 7, 100_000])
async def test_what_is_wrong_is_refused_and_ends_the_connection(conversation, data, status, piece):
    async def answer(request):
        raise AssertionError(f"this is no request: {request}")

    client = conversation(answer)
    with suppress(trio.BrokenResourceError):  # it may be refused before all of it was sent
        for at in range(0, len(data), piece):
            await client.send(data[at : at + piece])
    reply = await client.answer()
    assert (reply.status, reply.headers["Connection"]) == (status, "close")
    assert await client.ended()


valid = st.sampled_from([GET, *(d for d, _ in MALFORMED.values())])
damage = st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=3)), max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(valid, st.binary(max_size=40)), max_size=4).map(b"".join), damage, st.integers(1, 5000))
def test_no_bytes_whatever_break_it(data, damage, piece):
    for at, patch in damage:
        at %= len(data) + 1
        data = data[:at] + patch + data[at + len(patch) :]

    async def talk():
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(http11.serve_connection, theirs, echo, limits=LIMITS))
            with suppress(trio.BrokenResourceError):
                for at in range(0, len(data), piece):
                    await ours.send_all(data[at : at + piece])
            await ours.send_eof()
        await theirs.aclose()
        return b"".join([chunk async for chunk in ours])

    answers = trio.run(talk, clock=trio.testing.MockClock(autojump_threshold=0))
    assert not answers or answers.startswith(b"HTTP/1.1 ")


async def test_an_endless_header_is_cut_off(conversation):
    client = conversation()
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nA: ")
    for _ in range(30):
        await client.send(b"a" * 100)
    assert (await client.answer()).status == 431


@pytest.mark.parametrize(
    ("sent", "after", "status"),
    [
        (b"", 60, None),
        (GET, 60, 200),
        (b"GET / HT", 10, 408),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", 10, 408),
    ],
)
async def test_a_slow_client_is_given_up(conversation, autojump_clock, sent, after, status):
    began = trio.current_time()
    client = conversation()
    await client.send(sent) if sent else None
    if status is not None:
        assert (await client.answer()).status == status
    assert await client.ended()
    assert after <= trio.current_time() - began <= after + 2 * http11.LINGER_SECONDS


async def test_dribbling_does_not_buy_time(conversation, autojump_clock):
    client = conversation()
    began = trio.current_time()
    with suppress(trio.BrokenResourceError):
        for byte in b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100:
            await client.send(bytes([byte]))
            await trio.sleep(1)
    assert trio.current_time() - began < 15


async def test_a_client_that_does_not_read_is_given_up(autojump_clock):
    ours, theirs = trio.testing.lockstep_stream_pair()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(http11.serve_connection, theirs, echo, limits=LIMITS))
        await ours.send_all(GET)
    assert trio.current_time() - began == pytest.approx(30)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_client_may_leave_at_any_moment(conversation, sent):
    client = conversation()
    await client.send(sent) if sent else None
    await client.stream.send_eof()
    assert await client.ended()


async def test_a_refused_client_can_still_read_why(nursery):
    """It is sending a body we never read: closing at once would reset the connection under the answer."""
    async with connected(await serving(nursery, LIMITS)) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50_000)
        answer = await client.answer()
        assert answer.status == 413
    nursery.cancel_scope.cancel()


async def test_what_goes_wrong_on_one_connection_ends_that_one_only(nursery, caplog):
    async def answer(request):
        if request.target == b"/odd":
            raise TypeError("nobody thought of that")
        return Response(204)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(partial(http11.serve, answer, listeners, limits=LIMITS))
    port = listeners[0].socket.getsockname()[1]
    async with connected(port) as one, connected(port) as other:
        await one.send(b"GET /odd HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await one.ended()
        assert (await other.get("/")).status == 204
    assert "nobody thought of that" in caplog.text
    nursery.cancel_scope.cancel()


async def test_a_client_too_many_is_closed_and_the_others_are_served(nursery):
    port = await serving(nursery, Limits(connections=2))
    async with connected(port) as first, connected(port) as second:
        assert (await first.get("/1")).status == 200
        assert (await second.get("/2")).status == 200
        async with connected(port) as third:
            assert await third.ended()
        assert (await first.get("/3")).status == 200
    assert any([await _is_served(port) for _ in range(20)])
    nursery.cancel_scope.cancel()


async def _is_served(port: int) -> bool:
    try:
        async with connected(port) as client:
            return (await client.get("/")).status == 200
    except (AssertionError, trio.BrokenResourceError):
        return False


async def test_a_line_break_in_a_header_is_a_mistake_of_ours(conversation):
    connection = http11.Connection(trio.testing.memory_stream_pair()[0], LIMITS)
    with pytest.raises(ValueError, match="line break"):
        await connection.send(None, Response(200, headers=(("Location", "/x\r\nSet-Cookie: a"),)))


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/metrics?x=1", b"/metrics"),
        (b"http://host:1/metrics?x", b"/metrics"),
        (b"http://host", b"/"),
        (b"*", b"*"),
        (b"/", b"/"),
    ],
)
def test_the_path_of_a_target(target, path):
    assert Request("GET", target, {}, keep_alive=True).path == path
