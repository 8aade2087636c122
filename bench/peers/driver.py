"""One peer under the driver: its processes, its tally, and what is measured of it. The same for all."""

import ast
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from bench.peers.install import FOLDER, NODE, OURSELVES, RUNNERS, Unavailable, programs
from bench.processes import ROOT, Process, api, environment, running
from bench.report import percentile
from bench.server import Server
from taskward.broker.embedded import free_port

ADAPTERS = Path(__file__).with_name("adapters")
LINE = 16
LOOK_SECONDS = 0.002
VERB_SECONDS = 120.0
FIRST_SECONDS = 30.0
KILLED = 100
KILL_AFTER = 20
NAP_SECONDS = 0.2
CALLERS = 32
MOST_TASKS = 300_000
# Below this rate each task's line is written at once; above it a hundred together.
QUICK = 3000


class Peer:
    """Drives one peer against `on`. `seconds` is about how long each figure is measured. Raises Unavailable."""

    def __init__(self, name: str, on: Server, folder: Path, *, seconds: float) -> None:
        self.name = name
        self._on = on
        self._seconds = seconds
        self._log = folder / f"{name}.log"
        self._tally = folder / f"{name}.tally"
        self._rates: dict[tuple[str, int], float] = {}

    def note(self) -> str:
        """How it is configured."""
        if self.name in RUNNERS:
            lines = (ADAPTERS / RUNNERS[self.name][1]).read_text().splitlines()
            return " ".join(
                line.lstrip("#/ ") for line in takewhile(lambda line: line.startswith(("#", "//")), lines[1:])
            )
        source = (ADAPTERS / f"peer_{self.name}.py").read_text()
        return " ".join((ast.get_docstring(ast.parse(source)) or "").split("\n")[1:]).strip()

    def warm(self) -> None:
        """Learn about how fast it is."""
        self.rate("noop", 10)

    def rate(self, task: str, concurrency: int, *, cpus: frozenset[int] = frozenset()) -> float:
        """Tasks a second of one worker, from what is queued before it starts."""
        known = self._rates.get((task, concurrency)) or self._rates.get(("noop", 10)) or 1000.0
        n = int(min(MOST_TASKS, max(200, known * self._seconds)))
        self._fresh()
        self._verb("fill", task, str(n))
        every = 100 if known > QUICK else 1
        with self._worker(concurrency, every=every, tasks=n, cpus=cpus):
            rate = self._watch(n, most=4 * self._seconds)
        self._rates[task, concurrency] = rate
        return rate

    def single(self) -> float:
        """Submissions a second, one client, one by one, 100 characters each."""
        return self._submissions("single", 300)

    def bulk(self) -> float:
        """The same in batches of 500; not a number where it has none."""
        return self._submissions("bulk", 1000)

    def latency(self, n: int) -> tuple[float, float]:
        """Milliseconds from a submission to its start on an idle worker, p50 and p99."""
        self._fresh()
        with self._worker(10, every=1, tasks=0):
            self._verb("latency", "5")  # connections, and whatever is made at the first task
            self._tally.write_bytes(b"")
            self._verb("latency", str(n))
        waits = [number / 1e6 for number in self._numbers()]
        return percentile(waits, 50), percentile(waits, 99)

    def bytes_per_task(self, n: int) -> float:
        """Server memory a queued task with a payload of 100 characters."""
        self._fresh()
        self._verb("single", "20")
        before = self._on.memory
        self._verb("single", str(n))
        return (self._on.memory - before) / n

    def http(self) -> float:
        """Submissions a second over HTTP on 32 connections, one process; not a number where it has no HTTP side."""
        if self.name in RUNNERS:
            return float("nan")
        self._fresh()
        with self._web() as web:
            options = ["--connections", str(CALLERS), "--seconds", str(self._seconds)]
            command = [sys.executable, "-m", "bench.http_load", str(web.port), "single", *options]
            answer = json.loads(_output(command, cwd=ROOT, env=environment()))
            return float(answer["tasks"] / answer["seconds"])

    def kill(self, *, patience: float) -> str:
        """What becomes of 100 tasks whose worker is killed after the first 20, and started again at once."""
        self._fresh()
        self._verb("fill", "nap", str(KILLED))
        with self._worker(10, every=1, tasks=0) as worker:
            self._until(KILL_AFTER, seconds=FIRST_SECONDS)
            time.sleep(NAP_SECONDS / 2)  # in the middle of the next ones
            worker.kill()
        began = time.monotonic()
        with self._worker(10, every=1, tasks=0):
            while len(set(self._numbers())) < KILLED and time.monotonic() < began + patience:
                time.sleep(0.1)
            seconds = time.monotonic() - began
        runs = Counter(self._numbers())
        again = sum(count > 1 for count in runs.values())
        twice = f"; {again} ran twice" if again else ""
        if len(runs) < KILLED:
            return f"{KILLED - len(runs)} of {KILLED} not run within {patience:g} s{twice}"
        return f"keeps; all run {seconds:.0f} s after the kill{twice}"

    # ---- the tally

    def _fresh(self) -> None:
        self._on.clear()
        self._tally.write_bytes(b"")

    def _done(self) -> int:
        return self._tally.stat().st_size // LINE

    def _numbers(self) -> list[int]:
        return [int(line) for line in self._tally.read_bytes().split()]

    def _watch(self, n: int, *, most: float) -> float:
        first = self._until(1, seconds=FIRST_SECONDS)
        began = last = time.perf_counter()
        done = first
        while done < n and last < began + most:
            time.sleep(LOOK_SECONDS)
            now_done, now = self._done(), time.perf_counter()
            if now_done > done:
                done, last = now_done, now
            elif now > last + FIRST_SECONDS:
                raise Unavailable(f"{self.name}: {done} of {n} tasks run, then none for {FIRST_SECONDS:g} s")
        return (done - first) / (last - began) if last > began else float("nan")

    def _until(self, n: int, *, seconds: float) -> int:
        give_up = time.monotonic() + seconds
        while (done := self._done()) < n:
            if time.monotonic() > give_up:
                raise Unavailable(f"{self.name}: {done} tasks run within {seconds:g} s: {self._words()}")
            time.sleep(LOOK_SECONDS)
        return done

    # ---- the processes

    def _submissions(self, verb: str, first: int) -> float:
        """First a few, to see how many fit into the time."""
        self._fresh()
        seconds = self._verb(verb, str(first))
        if seconds == "-":
            return float("nan")
        n = max(first, int(first / float(seconds) * self._seconds) // 500 * 500)
        return n / float(self._verb(verb, str(n)))

    def _verb(self, *words: str) -> str:
        return _output([*self._runner(), *words], cwd=ADAPTERS, env=self._environment())

    @contextmanager
    def _worker(
        self, concurrency: int, *, every: int, tasks: int, cpus: frozenset[int] = frozenset()
    ) -> Iterator[Process]:
        env = self._environment() | {"BENCH_EVERY": str(every), "BENCH_TASKS": str(tasks)}
        command = [*self._runner(), "worker", str(concurrency)]
        with running(Process(command, env=env, log=self._log, cwd=ADAPTERS), cpus=cpus) as process:
            yield process

    @contextmanager
    def _web(self) -> Iterator[Process]:
        if self.name == OURSELVES:
            with api(self._on.url, folder=self._log.parent) as process:
                yield process
            return
        port = free_port()
        options = ["--host", "127.0.0.1", "--port", str(port), "--no-access-log", "--log-level", "warning"]
        command = [str(programs(self.name) / "uvicorn"), "web:app", *options]
        env = self._environment() | {"BENCH_PEER": self.name}
        with running(Process(command, env=env, log=self._log, port=port, cwd=ADAPTERS), ready="/docs") as process:
            yield process

    def _runner(self) -> list[str]:
        if self.name in RUNNERS:
            program, adapter = RUNNERS[self.name]
            return [program, str(ADAPTERS / adapter)]
        return [str(programs(self.name) / "python"), str(ADAPTERS / "run.py"), self.name]

    def _environment(self) -> dict[str, str]:
        paths = [str(ADAPTERS), *([str(ROOT / "sched")] if self.name == OURSELVES else [])]
        return environment(
            BENCH_REDIS=self._on.url,
            BENCH_TALLY=str(self._tally),
            BENCH_MODULES=str(FOLDER / NODE),
            PYTHONPATH=os.pathsep.join(paths),
            PATH=f"{programs(self.name)}{os.pathsep}{os.environ['PATH']}",
        )

    def _words(self) -> str:
        return self._log.read_text(errors="replace").strip()[-300:] if self._log.exists() else ""


def _output(command: Sequence[str], *, cwd: Path, env: dict[str, str]) -> str:
    try:
        done = subprocess.run(
            command, cwd=cwd, env=env, capture_output=True, text=True, timeout=VERB_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{' '.join(command[-3:])} took longer than {VERB_SECONDS:g} s") from None
    if done.returncode:
        raise Unavailable(f"{' '.join(command[-3:])}: {_cause(done.stderr)}")
    return done.stdout.strip()


def _cause(stderr: str) -> str:
    """The first line that names an error, in Python's or Node's way; else the last line."""
    lines = stderr.strip().splitlines() or ["no word"]
    return next((line for line in lines if re.match(r"[\w.]*(Error|Exception|Exit)\b", line)), lines[-1]).strip()[:300]
