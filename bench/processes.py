"""The processes under test, and what /proc tells of them."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from taskward.broker.embedded import free_port

ROOT = Path(__file__).parents[1]
START_SECONDS = 60.0
STOP_SECONDS = 15.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SETTINGS = re.compile(r"^(REDIS_URL|QUEUE|API_|METRICS_|OTEL_|WORKER_|LEASE_|RESULT_|TASKWARD_|MAX_|PRIORIT)")


class Process:
    """A child in a session of its own. `port` is where it answers HTTP, 0 where it does not."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], log: Path, port: int = 0, cwd: Path = ROOT
    ) -> None:
        self.port = port
        self.log = log
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    @property
    def cpu_seconds(self) -> float:
        """User and system time so far, all threads, without children."""
        return cpu_seconds(self.popen.pid)

    @property
    def rss_mb(self) -> float:
        """Resident memory in MiB."""
        return int(Path(f"/proc/{self.popen.pid}/statm").read_text().split()[1]) * _PAGE / 2**20

    @property
    def highest_rss_mb(self) -> float:
        """The most resident memory it has had, in MiB."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024

    def pin(self, cpus: frozenset[int]) -> None:
        """Run on these processors only, now and whatever threads come."""
        if cpus:
            os.sched_setaffinity(self.popen.pid, cpus)

    def until_ready(self, path: str = "/readyz") -> None:
        """Wait until it answers 200. Raises RuntimeError where it ends, or takes too long."""
        give_up = time.monotonic() + START_SECONDS
        while not _answers(f"http://127.0.0.1:{self.port}{path}"):
            if self.popen.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"not ready: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to whatever is left of its session."""
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.popen.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the whole session."""
        self._signal(signal.SIGKILL)
        self.popen.wait(STOP_SECONDS)

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self.popen.pid, number)
        except ProcessLookupError:
            return


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def environment(**settings: str) -> dict[str, str]:
    """The environment we have, without settings of Taskward, and with these."""
    kept = {name: value for name, value in os.environ.items() if not _SETTINGS.match(name)}
    return kept | {"PYTHONUNBUFFERED": "1", "LOG_LEVEL": "warning"} | settings


@contextmanager
def worker(
    url: str, *, concurrency: int, folder: Path, cpus: frozenset[int] = frozenset(), app: str = "bench.handlers:app"
) -> Iterator[Process]:
    """A `taskward worker`, ready. Everything but the concurrency is as by default."""
    port = free_port()
    env = environment(REDIS_URL=url, METRICS_ADDR=f"127.0.0.1:{port}", WORKER_CONCURRENCY=str(concurrency))
    command = [sys.executable, "-m", "taskward", "worker", "--app", app]
    with running(Process(command, env=env, log=folder / "worker.log", port=port), cpus=cpus) as process:
        yield process


@contextmanager
def api(url: str, *, folder: Path, cpus: frozenset[int] = frozenset()) -> Iterator[Process]:
    """A `taskward api`, ready."""
    port = free_port()
    env = environment(REDIS_URL=url, API_ADDR=f"127.0.0.1:{port}", METRICS_ADDR=f"127.0.0.1:{free_port()}")
    command = [sys.executable, "-m", "taskward", "api"]
    with running(Process(command, env=env, log=folder / "api.log", port=port), cpus=cpus) as process:
        yield process


@contextmanager
def running(process: Process, *, cpus: frozenset[int] = frozenset(), ready: str = "/readyz") -> Iterator[Process]:
    """Ready where it has a port, for the length of the block."""
    try:
        process.pin(cpus)
        if process.port:
            process.until_ready(ready)
        yield process
    finally:
        process.stop()


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (HTTPError, URLError, OSError):
        return False
