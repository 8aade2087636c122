"""Requests nobody should send, and some that look odd and are right."""

from dataclasses import dataclass
from typing import Final

HOST: Final = b"Host: localhost\r\n"
LONG: Final = b"x" * 200_000
TASK: Final = b'{"type":"echo"}'
SMUGGLED: Final = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Attack:
    """`parts` are sent one after the other. `answers`: how many requests in it are right, and are to be answered 2xx.

    With none, it must be refused; `waits` says that the server may still wait for the rest of it instead.
    """

    name: str
    parts: tuple[bytes, ...]
    answers: int = 0
    waits: bool = False


def get(*headers: bytes, target: bytes = b"/healthz", version: bytes = b"HTTP/1.1", host: bytes = HOST) -> bytes:
    """A request without a body."""
    return b"GET " + target + b" " + version + b"\r\n" + host + b"".join(h + b"\r\n" for h in headers) + b"\r\n"


def post(*headers: bytes, body: bytes = b"") -> bytes:
    """A submission; its headers are complete."""
    head = (b"POST /tasks HTTP/1.1", b"Host: localhost", b"Content-Type: application/json", *headers)
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def one_by_one(data: bytes) -> tuple[bytes, ...]:
    """A byte at a time."""
    return tuple(data[n : n + 1] for n in range(len(data)))


H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
WEBSOCKET = (
    *(b"Connection: Upgrade", b"Upgrade: websocket"),
    *(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
)
CHUNKED = b"Transfer-Encoding: chunked"
EXPECT = b"Expect: 100-continue"
# TASK in two chunks, without the last, empty one.
CHUNKS = b"5\r\n" + TASK[:5] + b"\r\na\r\n" + TASK[5:] + b"\r\n"

# Sent to both ports. What asks for /tasks is refused by the scrape port anyway.
REFUSED = (
    Attack("noise", (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),)),
    Attack("zeros", (b"\0" * 4096,)),
    Attack("another protocol", (b"EHLO example.org\r\n",), waits=True),
    Attack("HTTP/2 by prior knowledge", (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",)),
    Attack("no version", (b"GET /healthz\r\n\r\n",), waits=True),
    Attack("no Host", (get(host=b""),)),
    Attack("two Hosts", (get(b"Host: elsewhere"),)),
    Attack("a NUL in a header", (get(b"X-Odd: a\0b"),)),
    Attack("a NUL in the target", (get(target=b"/heal\0thz"),)),
    Attack("a space before the colon", (get(b"X-Odd : a"),)),
    Attack("a header without a colon", (get(b"X-Odd"),)),
    Attack("a huge header", (get(b"X-Odd: " + LONG),)),
    Attack("a huge header that never ends", (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-Odd: " + LONG,)),
    Attack("a huge target", (get(target=b"/" + LONG),)),
    Attack("a huge method", (b"G" * 200_000 + b" / HTTP/1.1\r\n" + HOST + b"\r\n",)),
    Attack("ten thousand headers", (get(*[b"X-%d: a" % n for n in range(10_000)]),)),
    Attack("two lengths that differ", (post(b"Content-Length: 15", b"Content-Length: 3", body=TASK),)),
    Attack("a length that is none", (post(b"Content-Length: fifteen", body=TASK),)),
    Attack("a length below zero", (post(b"Content-Length: -15", body=TASK),)),
    Attack("a length with a sign", (post(b"Content-Length: +15", body=TASK),)),
    Attack("a length beyond all numbers", (post(b"Content-Length: " + b"9" * 400, body=TASK),)),
    Attack("a length of five thousand zeros", (post(b"Content-Length: " + b"0" * 5000 + b"15", body=TASK),)),
    Attack("a length beyond the limit", (post(b"Content-Length: 99999999999", body=TASK),)),
    Attack("a chunk size that is none", (post(CHUNKED, body=b"zz\r\n" + TASK + b"\r\n0\r\n\r\n"),)),
    Attack("a chunk size beyond all numbers", (post(CHUNKED, body=b"f" * 40 + b"\r\n" + TASK),)),
    Attack("a chunk size below zero", (post(CHUNKED, body=b"-1\r\n" + TASK + b"\r\n0\r\n\r\n"),)),
    Attack("a chunk longer than it says", (post(CHUNKED, body=b"3\r\n" + TASK + b"\r\n0\r\n\r\n"),)),
    Attack("an endless chunk extension", (post(CHUNKED, body=b"f;" + LONG),), waits=True),
    Attack("a coding nobody knows", (post(b"Transfer-Encoding: xchunked", body=b"f\r\n" + TASK + b"\r\n0\r\n\r\n"),)),
    Attack("chunked twice", (post(CHUNKED, CHUNKED, body=b"f\r\n" + TASK + b"\r\n0\r\n\r\n"),)),
    Attack("length and chunked", (post(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n" + SMUGGLED),)),
    Attack("a target of another authority", (b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n",)),
)
# Right or wrong by the letter; what counts is that nobody is hurt.
ODD = (
    Attack("a version of its own", (get(version=b"HTTP/3.7"),)),
    Attack("empty lines first", (b"\r\n\r\n" + SMUGGLED,)),
    Attack("a query that is not UTF-8", (get(target=b"/healthz?\xff\xfe=%ff"),)),
    Attack("a folded header", (get(b"X-Odd: a\r\n b"),)),
    Attack("lines that end in LF alone", (SMUGGLED.replace(b"\r\n", b"\n"),)),
    Attack("a body where none belongs", (get(b"Content-Length: 15") + TASK,)),
    Attack("a method nobody knows", (b"BREW /healthz HTTP/1.1\r\n" + HOST + b"\r\n",)),
    Attack("a host with an empty label", (get(host=b"Host: a..b\r\n"),)),
    Attack(
        "a host with an empty label, and half a body", (get(b"Content-Length: 30", host=b"Host: a..b\r\n") + b"abc",)
    ),
    Attack("a host with a label that is too long", (get(host=b"Host: " + b"a" * 64 + b".org\r\n"),)),
    Attack("a host that is no text", (get(host=b"Host: \xff\xfe\r\n"),)),
    Attack("an authority that is no address", (get(target=b"http://[:1]/healthz"),)),
    Attack("a WebSocket", (get(*WEBSOCKET),)),
    Attack("a WebSocket to nowhere", (get(*WEBSOCKET, target=b"http://[:1]/") + b"\xff\xff",)),
    Attack("a way up and out", (get(target=b"/../../etc/passwd"),)),
)
SLOW = (
    Attack("nothing at all", (), waits=True),
    Attack("half a head", (b"GET /healthz HTTP/1.1\r\nHost: loc",), waits=True),
    Attack("a head a byte at a time", one_by_one(SMUGGLED[:-2] + b"X-Slow: aaaa"), waits=True),
    Attack("half a body", (post(b"Content-Length: 1000", body=TASK),), waits=True),
    Attack("half a chunk", (post(CHUNKED, body=b"ff\r\n" + TASK),), waits=True),
    Attack("a body that is asked for and does not come", (post(b"Content-Length: 15", EXPECT),), waits=True),
)
RIGHT = (
    Attack("pipelined", (SMUGGLED * 5,), answers=5),
    Attack("pipelined, cut anywhere", (SMUGGLED[:7], SMUGGLED[7:] + SMUGGLED[:30], SMUGGLED[30:]), answers=2),
    Attack("HTTP/1.0", (get(version=b"HTTP/1.0", host=b""),), answers=1),
    Attack("HTTP/1.0 that stays", (get(b"Connection: keep-alive", version=b"HTTP/1.0"),), answers=1),
    Attack("absolute form", (get(target=b"http://localhost/healthz"),), answers=1),
    Attack("a head a byte at a time, to its end", one_by_one(SMUGGLED), answers=1),
    Attack("an upgrade nobody offers", (get(*H2C),), answers=1),
)
# To the API alone: it takes bodies.
TAKEN = (
    Attack("a chunked body", (post(CHUNKED, body=CHUNKS + b"0\r\n\r\n"),), answers=1),
    Attack("trailers", (post(CHUNKED, body=b"f\r\n" + TASK + b"\r\n0\r\nX-Late: a\r\n\r\n"),), answers=1),
    Attack("a body after 100", (post(b"Content-Length: 15", EXPECT), TASK), answers=1),
    Attack("a body a byte at a time", (post(b"Content-Length: 15"), *one_by_one(TASK)), answers=1),
    Attack("two submissions in one go", (post(b"Content-Length: 15", body=TASK) * 2,), answers=2),
)
