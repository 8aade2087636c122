"""A child process that stops when the block that runs it ends, and when this process dies, however it dies."""

import os
import signal
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import trio

from taskward.errors import TaskwardError

KEPT_LINES = 8
LONGEST_LINE = 65_536
KILL_SECONDS = 2.0

# The command's own process (exec), beside a watcher that waits for the end of stdin, which only we hold open, and
# then asks the command to stop. The kernel closes our end whatever ends us: no SIGKILL leaves an orphan behind.
_GUARD = 'exec 3<&0 </dev/null; { read -r _ <&3; kill "$$"; } >/dev/null 2>&1 & exec "$@" 3<&-'


class ChildEnded(TaskwardError):
    """A child process ended by itself. `name` says which, `tail` is the last it wrote."""

    def __init__(self, name: str, how: str, tail: Sequence[str]) -> None:
        super().__init__("\n".join([f"{name} {how}; its last words:" if tail else f"{name} {how}", *tail]))
        self.name = name
        self.tail = tuple(tail)


def guarded(command: Sequence[str]) -> list[str]:
    """`command`, to be stopped by SIGTERM once its stdin is closed. Its own stdin is empty."""
    return ["/bin/sh", "-c", _GUARD, "guard", *command]


@asynccontextmanager
async def running(
    command: Sequence[str],
    *,
    name: str,
    on_line: Callable[[str], None],
    stop_seconds: float,
    env: Mapping[str, str] | None = None,
    keep_open: Sequence[int] = (),
) -> AsyncIterator["Child"]:
    """Run `command` for the length of the block, giving `on_line` each line it writes.

    Leaving the block sends SIGTERM, and SIGKILL to its process group after `stop_seconds`. Where the command ends
    first, the block is cancelled and ChildEnded raised. It hears no Ctrl-C: it is in a process group of its own.
    `keep_open` are descriptors it inherits. Raises OSError where it cannot be started.
    """
    process = await trio.lowlevel.open_process(
        guarded(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env,
        process_group=0,
        pass_fds=keep_open,
    )
    child = Child(process, name=name, on_line=on_line)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(child.follow, nursery.cancel_scope)
        try:
            yield child
        finally:
            with trio.move_on_after(stop_seconds + 3 * KILL_SECONDS, shield=True):
                await child.stop(stop_seconds)
            child.forget()
    if child.ended_early is not None:
        raise child.ended_early


class Child:
    """A running child process."""

    def __init__(self, process: trio.Process, *, name: str, on_line: Callable[[str], None]) -> None:
        self.name = name
        self.pid = process.pid
        self.ended_early: ChildEnded | None = None
        self._process = process
        self._on_line = on_line
        self._tail: deque[str] = deque(maxlen=KEPT_LINES)
        self._stopping = False
        self._gone = trio.Event()
        self._following = trio.CancelScope(shield=True)

    async def follow(self, block: trio.CancelScope) -> None:
        """Until the process is gone and its output read; cancels `block` where nobody asked it to go.

        Shielded, so that a stopping child is heard to its end and never hangs on a full pipe; `forget` ends it.
        """
        with self._following:
            try:
                code = await self._hear_out()
                if not self._stopping:
                    self.ended_early = ChildEnded(self.name, _how(code), self._tail)
                    self.kill()  # the watcher, and whatever the command left
                    block.cancel()
                elif code > 0:
                    self._on_line(_how(code))
            finally:
                self._gone.set()

    async def stop(self, seconds: float) -> None:
        """Ask it to stop, wait at most `seconds`, then kill it with all it started."""
        self._stopping = True
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        with trio.move_on_after(seconds):
            await self._process.wait()
        if self._process.returncode is None:
            self._on_line(f"did not stop within {seconds:g} s: killed")
            self.kill()
            await self._process.wait()
        await self._gone.wait()

    def forget(self) -> None:
        """Stop listening."""
        self._following.cancel()

    def kill(self) -> None:
        """SIGKILL to the process and all in its group, while there is one."""
        if self._gone.is_set():
            return
        with suppress(ProcessLookupError, PermissionError):  # macOS says EPERM of a group of zombies
            os.killpg(self.pid, signal.SIGKILL)

    async def _hear_out(self) -> int:
        silent = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, silent)
            code = await self._process.wait()
            with trio.move_on_after(KILL_SECONDS):
                await silent.wait()
            if self._stopping and not silent.is_set():  # a grandchild holds the pipe
                self.kill()
            nursery.cancel_scope.cancel()
        return code

    async def _read(self, silent: trio.Event) -> None:
        assert self._process.stdout is not None
        rest = b""
        async with self._process.stdout as stdout:
            async for chunk in stdout:
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > LONGEST_LINE:
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    self._say(line)
        if rest:
            self._say(rest)
        silent.set()

    def _say(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        self._tail.append(text)
        self._on_line(text)


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was killed by {signal.Signals(-code).name}"
