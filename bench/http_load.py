"""A load generator for the API, a process of its own: requests made beforehand, sent on bare Trio sockets.

    python -m bench.http_load PORT single|array|ndjson|get [--connections N] [--seconds S] [--tasks N] [--path P]

It prints one JSON object: requests, tasks, seconds, p50_ms, p99_ms.
"""

import argparse
import json
import time
from dataclasses import dataclass, field

import httptools
import trio

from bench.report import percentile

TASK = {"type": "noop", "payload": "x" * 100}
ARRAY = 1000
LINES = 1000
READ_BYTES = 262_144
KEPT_BYTES = 4096
# Between two requests of `get`, which looks at something rather than loads it.
PAUSE_SECONDS = 0.02
PATIENCE_SECONDS = 30.0


@dataclass(slots=True)
class Seen:
    """What came of it."""

    requests: int = 0
    tasks: int = 0
    milliseconds: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("shape", choices=("single", "array", "ndjson", "get"))
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long single and array go on")
    parser.add_argument("--tasks", type=int, default=0, help="how many lines ndjson has, how many requests get")
    parser.add_argument("--path", default="/tasks")
    options = parser.parse_args()
    seen = Seen()
    began = time.perf_counter()
    trio.run(_run, options, seen)
    seconds = time.perf_counter() - began
    print(
        json.dumps(
            {
                "requests": seen.requests,
                "tasks": seen.tasks,
                "seconds": seconds,
                "p50_ms": percentile(seen.milliseconds, 50),
                "p99_ms": percentile(seen.milliseconds, 99),
            }
        )
    )


class Exchange:
    """One connection, one request at a time. Raises RuntimeError for anything but a 2xx."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._parser = httptools.HttpResponseParser(self)
        self._complete = False
        self.body = b""

    def on_body(self, body: bytes) -> None:
        """Called by the parser: keep the end, where a batch has its counts."""
        self.body = (self.body + body[-KEPT_BYTES:])[-KEPT_BYTES:]

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._complete = True

    async def ask(self, request: bytes) -> None:
        """Send it, and read the whole answer."""
        await self._stream.send_all(request)
        await self.answer()

    async def answer(self) -> None:
        """Read a whole answer to what was sent."""
        self._complete, self.body = False, b""
        while not self._complete:
            with trio.fail_after(PATIENCE_SECONDS):
                data = await self._stream.receive_some(READ_BYTES)
            if not data:
                raise RuntimeError("the API closed the connection")
            self._parser.feed_data(bytes(data))
        if self._parser.get_status_code() // 100 != 2:
            raise RuntimeError(f"{self._parser.get_status_code()}: {self.body[:500]!r}")


def request(method: str, path: str, body: bytes = b"", *, kind: str = "application/json") -> bytes:
    """The bytes of a request; without a body's length where it will come in chunks."""
    length = "Transfer-Encoding: chunked" if kind.endswith("ndjson") else f"Content-Length: {len(body)}"
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n{length}\r\n\r\n"
    return head.encode() + body


async def _run(options: argparse.Namespace, seen: Seen) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(options.connections):
            nursery.start_soon(_connection, options, seen)


async def _connection(options: argparse.Namespace, seen: Seen) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", options.port) as stream:
        exchange = Exchange(stream)
        match options.shape:
            case "single":
                body = json.dumps(TASK).encode()
                await _repeat(exchange, request("POST", options.path, body), seen, seconds=options.seconds, tasks=1)
            case "array":
                body = json.dumps([TASK] * ARRAY).encode()
                whole = request("POST", "/tasks/batch", body)
                await _repeat(exchange, whole, seen, seconds=options.seconds, tasks=ARRAY)
            case "ndjson":
                await _stream_lines(stream, exchange, seen, options.tasks)
            case "get":
                await _look(exchange, request("GET", options.path), seen, times=options.tasks)


async def _repeat(exchange: Exchange, whole: bytes, seen: Seen, *, seconds: float, tasks: int) -> None:
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        await exchange.ask(whole)
        seen.milliseconds.append((time.perf_counter() - began) * 1000)
        seen.requests += 1
        seen.tasks += tasks


async def _look(exchange: Exchange, whole: bytes, seen: Seen, *, times: int) -> None:
    for _ in range(times):
        began = time.perf_counter()
        await exchange.ask(whole)
        seen.milliseconds.append((time.perf_counter() - began) * 1000)
        seen.requests += 1
        await trio.sleep(PAUSE_SECONDS)


async def _stream_lines(stream: trio.SocketStream, exchange: Exchange, seen: Seen, tasks: int) -> None:
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.answer)
        await stream.send_all(request("POST", "/tasks/batch", kind="application/x-ndjson"))
        for first in range(0, tasks, LINES):
            await stream.send_all(_chunk(min(LINES, tasks - first)))
        await stream.send_all(b"0\r\n\r\n")
    counts = json.loads(exchange.body.splitlines()[-1])["counts"]
    if counts["created"] != tasks:
        raise RuntimeError(f"{tasks} sent, {counts}")
    seen.milliseconds.append((time.perf_counter() - began) * 1000)
    seen.requests += 1
    seen.tasks += tasks


_LINE = json.dumps(TASK).encode() + b"\n"
_WHOLE_CHUNK = b"%x\r\n%b\r\n" % (len(_LINE) * LINES, _LINE * LINES)


def _chunk(lines: int) -> bytes:
    return _WHOLE_CHUNK if lines == LINES else b"%x\r\n%b\r\n" % (len(_LINE) * lines, _LINE * lines)


if __name__ == "__main__":
    main()
