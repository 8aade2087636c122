"""What every measure is given: how much to do, and the processes to do it with."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from bench.processes import Process
from bench.server import Server, server


@dataclass(frozen=True, slots=True)
class Setup:
    """`scale` shrinks every size and time; `cpus` is where the processes under test run, all where it is empty."""

    scale: float
    cpus: frozenset[int]
    folder: Path

    def tasks(self, full: int) -> int:
        """So many, scaled."""
        return max(20, round(full * self.scale))

    def seconds(self, full: float) -> float:
        """So long, scaled."""
        return max(0.2, full * self.scale)

    def server(self, *, fsync: str = "") -> AbstractContextManager[Server]:
        """A new one, empty; without persistence unless `fsync` is given."""
        return server(self.folder, fsync=fsync)

    def worker(self, on: Server, *, concurrency: int = 100) -> AbstractContextManager[Process]:
        """A real worker process."""
        return processes.worker(on.url, concurrency=concurrency, folder=self.folder, cpus=self.cpus)

    def api(self, on: Server) -> AbstractContextManager[Process]:
        """A real API process."""
        return processes.api(on.url, folder=self.folder, cpus=self.cpus)

    @contextmanager
    def worker_on_server(self, *, concurrency: int = 100) -> Iterator[tuple[Server, Process]]:
        """Both, without persistence."""
        with self.server() as on, self.worker(on, concurrency=concurrency) as process:
            yield on, process
