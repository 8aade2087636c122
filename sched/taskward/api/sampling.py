"""The API's view of the service: a loop reads depths and reports, and says that this process lives too."""

import math
import os
import secrets
import socket
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec
import trio

from taskward.api.summary import Rates, Window, Work
from taskward.broker.broker import WORKER_SILENT_MS, Broker
from taskward.broker.outage import Outage
from taskward.client.view import instant
from taskward.errors import BrokerUnavailable
from taskward.events import AdmissionChanged, Observer, PrioritySample, QueueSampled, SampleFailed
from taskward.policy.admission import closed

ROLE = "api"
STALE_INTERVALS = 3
LEAVE_SECONDS = 1.0
# Prometheus goes on looking for a process that has died for so long: it has to see that it is down.
LOOKED_FOR_MS = 300_000
LONGEST_RETRY_SECONDS = 60.0


class Report(msgspec.Struct, frozen=True):
    """The part of a process's report that the API works with."""

    id: str
    role: str = "worker"
    host: str = ""
    metrics_addr: str = ""
    concurrency: int = 0
    busy: int = 0
    work: Work | None = None


class Seen(msgspec.Struct, frozen=True):
    """A process that has reported: what it said, word for word too, and how many ms ago."""

    report: Report
    raw: msgspec.Raw
    silent_ms: int

    @property
    def live(self) -> bool:
        """Whether it has spoken lately."""
        return self.silent_ms < WORKER_SILENT_MS


class Depths(msgspec.Struct, frozen=True):
    """One priority's tasks."""

    queued: int
    scheduled: int
    retrying: int
    dead: int
    oldest_queued_age_seconds: float | None


class Workers(msgspec.Struct, frozen=True):
    """All live workers together."""

    live: int
    slots: int
    busy: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """GET /metrics/summary. Rates are over `window_seconds`; null stands for what nobody knows yet."""

    sampled_at: str | None
    age_seconds: float | None
    stale: bool
    window_seconds: float
    priorities: dict[str, Depths]
    processing_inflight: int | None
    workers: Workers
    throughput_per_second: float | None
    failure_ratio: float | None
    p95_run_seconds: float | None
    types: dict[str, Rates]


class Sampling:
    """Its owner runs `run`. Emits QueueSampled and SampleFailed, as the sampler of a worker does.

    `closed` are the priorities to refuse because more than their share of `most_memory` (of Redis' own) is taken.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        interval: float,
        most_memory: float,
        metrics_addr: str,
        observe: Observer,
        now_ms: Callable[[], int],
    ) -> None:
        self._broker = broker
        self._interval = interval
        self._most_memory = most_memory
        self.closed: frozenset[str] = frozenset()
        self._observe = observe
        self._now_ms = now_ms
        self._window = Window()
        self._sampled: QueueSampled | None = None
        self._sampled_at = -math.inf
        self._workers = Workers(0, 0, 0)
        host = socket.gethostname()
        self.id = f"{ROLE}:{host}:{os.getpid()}:{secrets.token_hex(3)}"
        self._report = {
            "id": self.id,
            "role": ROLE,
            "host": host,
            "pid": os.getpid(),
            "started_ms": now_ms(),
            "metrics_addr": metrics_addr,
        }

    async def run(self) -> NoReturn:
        """Sample until cancelled; then say that this process leaves. An outage is told once, and its end."""
        outage = Outage("api", self._observe)
        try:
            while True:
                try:
                    await self._sample()
                except BrokerUnavailable as exc:
                    self._observe(SampleFailed())
                    await outage.sit_out(exc)
                else:
                    outage.over()
                    await trio.sleep(self._interval)
        finally:
            with trio.move_on_after(LEAVE_SECONDS, shield=True):
                await self._leave()

    async def seen(self) -> dict[str, Seen]:
        """Every process that has reported and is not forgotten, by id. Raises BrokerUnavailable."""
        found = {}
        for id, (silent_ms, raw) in sorted((await self._broker.workers()).items()):
            try:
                found[id] = Seen(msgspec.json.decode(raw, type=Report), msgspec.Raw(raw), silent_ms)
            except msgspec.DecodeError:
                continue  # of a release that says it differently
        return found

    def summary(self) -> Summary:
        """The latest sample, and what workers did over the window."""
        overall, types = self._window.rates()
        sampled, age = self._sampled, trio.current_time() - self._sampled_at
        return Summary(
            sampled_at=instant(sampled.at_ms) if sampled else None,
            age_seconds=age if sampled else None,
            stale=age > STALE_INTERVALS * self._interval,
            window_seconds=self._window.seconds,
            priorities={p.priority: depths(p) for p in sampled.priorities} if sampled else {},
            processing_inflight=sampled.running if sampled else None,
            workers=self._workers,
            throughput_per_second=overall.throughput_per_second,
            failure_ratio=overall.failure_ratio,
            p95_run_seconds=overall.p95_run_seconds,
            types=types,
        )

    def retry_after(self, waiting: int) -> float:
        """Seconds until so many tasks are done, at the rate of the last minute: 1 to 60."""
        rate = self._window.rates()[0].throughput_per_second
        return min(max(1.0, waiting / rate), LONGEST_RETRY_SECONDS) if rate else LONGEST_RETRY_SECONDS

    async def _sample(self) -> None:
        sampled = await self._broker.sample()
        self._observe(sampled)
        self._sampled, self._sampled_at = sampled, trio.current_time()
        self._admit(sampled)
        await self._broker.report(self.id, msgspec.json.encode(self._report | {"at_ms": self._now_ms()}))
        seen = await self.seen()
        workers = [s.report for s in seen.values() if s.live and s.report.role != ROLE]
        self._workers = Workers(len(workers), sum(w.concurrency for w in workers), sum(w.busy for w in workers))
        self._window.add(
            trio.current_time(), {id: s.report.work for id, s in seen.items() if s.report.work is not None}
        )

    def _admit(self, sampled: QueueSampled) -> None:
        before, priorities = self.closed, self._broker.priorities
        self.closed = closed(priorities, used=sampled.memory, most=self._most_memory)
        if self.closed != before:
            self._observe(AdmissionChanged(tuple(p for p in priorities if p in self.closed), sampled.memory))

    async def _leave(self) -> None:
        try:
            await self._broker.report(self.id, b"")
        except BrokerUnavailable:
            return  # it will be forgotten by its silence


def depths(sample: PrioritySample) -> Depths:
    """A priority's part of a sample, in the words of the API."""
    return Depths(sample.queued, sample.scheduled, sample.retrying, sample.dead, sample.oldest_queued_age)


def targets(seen: dict[str, Seen]) -> list[dict[str, Any]]:
    """Prometheus' HTTP service discovery: processes by job, also those that fell silent without a goodbye in the last
    five minutes. An address without a host is on the process's own.
    """
    groups: dict[str, list[str]] = {}
    for process in seen.values():
        host, _, port = process.report.metrics_addr.rpartition(":")
        if process.silent_ms < LOOKED_FOR_MS and port.isdecimal():
            groups.setdefault(f"taskward-{process.report.role}", []).append(f"{host or process.report.host}:{port}")
    return [{"targets": sorted(set(found)), "labels": {"job": job}} for job, found in sorted(groups.items())]
