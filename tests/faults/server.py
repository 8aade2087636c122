"""A Valkey server of a test's own that can be frozen, killed and started again on its old data and port."""

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import redis
import trio

from taskward import child
from taskward.broker.embedded import server_command
from tests.support.ports import free_ports

START_SECONDS = 30.0


class Server:
    """Not running yet. With AOF, and by default a sync before every answer, as production should have it.

    `options` are more words for its command line.
    """

    def __init__(self, folder: Path, *, fsync: str = "always", options: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        [self.port] = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.admin = redis.Redis(port=self.port, decode_responses=True, socket_timeout=10)
        self._log = folder / "server.log"
        self._command = child.guarded([*self.command(folder, fsync), *options])
        self._process: subprocess.Popen[bytes] | None = None

    def command(self, folder: Path, fsync: str) -> list[str]:
        """What is run."""
        return server_command(folder, self.port, fsync)

    async def start(self) -> None:
        """Until it has read its data and serves."""
        process = self._process = self._spawn()
        with trio.fail_after(START_SECONDS):
            while not await self._serves():
                assert process.poll() is None, self._log.read_text(errors="replace")
                await trio.sleep(0.01)

    async def stop(self) -> None:
        """As an operator does: it saves what it has."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """kill -9."""
        await self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: the kernel goes on accepting connections and bytes for it."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, however it is."""
        self.admin.close()
        if self._process is not None:
            self._reap(self._process, signal.SIGKILL)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=log, stderr=log, process_group=0)

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        self.admin.connection_pool.disconnect()
        if process is not None:
            await trio.to_thread.run_sync(self._reap, process, how)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _reap(self, process: subprocess.Popen[bytes], how: signal.Signals) -> None:
        process.send_signal(how)
        process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the watcher beside it
        assert process.stdin is not None
        process.stdin.close()

    async def _serves(self) -> bool:
        try:
            async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
                await stream.send_all(b"PING\r\n")
                return await stream.receive_some(16) == b"+PONG\r\n"
        except (OSError, trio.BrokenResourceError):
            return False
