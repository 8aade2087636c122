"""A client that sends what bytes it is told to, and reads responses one by one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import trio


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._rest = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def get(self, target: str, *, method: str = "GET", **headers: str) -> Answer:
        lines = [f"{method} {target} HTTP/1.1", "Host: test"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send(("\r\n".join(lines) + "\r\n\r\n").encode())
        return await self.answer(head_only=method == "HEAD")

    async def answer(self, *, head_only: bool = False) -> Answer:
        while b"\r\n\r\n" not in self._rest:
            await self._more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = 0 if head_only else int(headers.get("Content-Length", 0))
        while len(self._rest) < length:
            await self._more()
        body, self._rest = self._rest[:length], self._rest[length:]
        return Answer(int(first.split(" ")[1]), headers, body)

    async def ended(self) -> bool:
        """Whether the server has closed, and sent nothing more."""
        return not self._rest and not await self.stream.receive_some()

    async def _more(self) -> None:
        data = await self.stream.receive_some()
        assert data, f"the server closed after {self._rest!r}"
        self._rest += data


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        yield Client(stream)
