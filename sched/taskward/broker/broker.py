"""Broker: the verbs of the store. Each is one script, takes a batch and can be repeated when its reply was lost."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple, assert_never

import msgspec
import trio

from taskward import codec
from taskward.broker import script
from taskward.broker.connection import Argument, Connection
from taskward.broker.keys import Keys
from taskward.config import Config
from taskward.errors import BrokerRefused, BrokerUnavailable, DecodeError
from taskward.events import BrokerCalled, Observer, PrioritySample, QueueSampled, TaskReaped
from taskward.policy.admission import depth_limits
from taskward.policy.retry import Bury, Cancel, Complete, Decision, Release, RetryIn
from taskward.task import Lease, Spec, State, Submission, Submitted

# A lease is trusted for this share of its length: the rest is for clocks and round trips.
LEASE_MARGIN = 0.2
SLEEP_SHARE = 0.1
WORKER_SILENT_MS = 15_000
WORKER_FORGOTTEN_MS = 3_600_000
REAP_PAUSE_MS = 5000
MOST_PER_CALL = 512
# Bytes of one argument. Redis takes 512 MiB, but stands still meanwhile.
LARGEST_CALL = 16 * 1024 * 1024
_STATE_OF = {"Q": "queued", "T": "retrying", "D": "dead", "C": "cancelled"}


class Terms(NamedTuple):
    """The times and limits the store works by. Milliseconds."""

    lease_ms: int
    result_ttl_ms: int
    dlq_ttl_ms: int
    idempotency_ttl_ms: int
    max_reaps: int
    max_queue_depth: int

    @classmethod
    def of(cls, config: Config) -> "Terms":
        """The store's part of the settings."""
        return cls(*(getattr(config, name) for name in cls._fields))


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """A decision about a lease, to be recorded. `line` is the ended attempt for the history, b'' for none."""

    lease: Lease
    decision: Decision
    line: bytes = b""


class Refusal(msgspec.Struct, frozen=True):
    """A submission the store did not take: `conflict`, or else there is no room. `waiting` is the queue's depth."""

    id: str
    conflict: bool
    waiting: int


class Step(msgspec.Struct, frozen=True):
    """What a step answered. `verdicts` has a letter a settlement: "!" for a lost lease. `wait`: seconds until more may
    be claimed, None where nobody knows. `broken` are claimed tasks whose bytes cannot be read, with why.
    """

    verdicts: str
    leases: list[Lease]
    broken: list[tuple[Lease, DecodeError]]
    expired: int
    wait: float | None


class Broker:
    """One queue. Every verb raises BrokerUnavailable; none keeps anything between calls.

    `clock` gives the time in Unix microseconds, "" for the server's: tests alone give another.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        queue: str,
        priorities: Sequence[str],
        terms: Terms,
        observe: Observer,
        clock: Callable[[], Argument] = lambda: "",
    ) -> None:
        self.connection = connection
        self.keys = Keys(queue, priorities)
        self.priorities = tuple(priorities)
        self._index = {name: str(n) for n, name in enumerate(self.priorities, 1)}
        self._terms = terms
        self._limits = depth_limits(terms.max_queue_depth, len(self.priorities))
        self._observe = observe
        self._clock = clock
        self._keys_of: dict[str, list[str]] = {}

    @classmethod
    def of(cls, config: Config, connection: Connection, *, observe: Observer) -> "Broker":
        """The queue of these settings."""
        return cls(
            connection,
            queue=config.queue,
            priorities=config.priority_names,
            terms=Terms.of(config),
            observe=observe,
        )

    async def call(self, name: str, args: Sequence[Argument], *, asleep: float = 0.0) -> Any:
        """Run one script, and tell how long it took; `asleep`: when there is a marker, or after so many seconds."""
        loaded = script.load(name)
        keys = self._keys_of.get(name) or self._keys_of.setdefault(name, loaded.keys(self.keys))
        marker = self.keys("wake") if asleep else ""
        began = time.perf_counter()
        try:
            reply = await self.connection.run(loaded, keys, [self._clock(), *args], marker=marker, seconds=asleep)
        except BrokerUnavailable:
            self._observe(BrokerCalled(name, time.perf_counter() - began, "unavailable"))
            raise
        if not asleep:
            self._observe(BrokerCalled(name, time.perf_counter() - began))
        return reply

    async def check(self) -> list[str]:
        """Look at the server before trusting it. -> warnings. Raises BrokerRefused for one that can evict tasks."""
        memory = _info(await self.connection.command("INFO", "memory"))
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and memory.get("maxmemory", "0") != "0":
            raise BrokerRefused(
                f"Redis would evict tasks (maxmemory-policy {policy}). Set: CONFIG SET maxmemory-policy noeviction"
            )
        warnings = []
        persistence = _info(await self.connection.command("INFO", "persistence"))
        if persistence.get("aof_enabled", "1") == "0":
            warnings.append("Redis has no AOF (appendonly no): a crash of Redis loses accepted tasks")
        replication = _info(await self.connection.command("INFO", "replication"))
        if replication.get("connected_slaves", "0") != "0" and "min_slaves_good_slaves" not in replication:
            warnings.append(
                "Redis has replicas, but min-replicas-to-write is 0: a primary that a failover has replaced "
                "goes on accepting tasks, and they are lost"
            )
        return warnings

    async def submit(
        self, submissions: Sequence[Submission], *, closed: Collection[str] = ()
    ) -> list[Submitted | Refusal]:
        """Store tasks, or answer with those that stand for them already. At most MOST_PER_CALL.

        No new task of a `closed` priority is taken, nor of one whose share of max_queue_depth is used up.
        """
        limits = self._limits
        if closed:
            limits = [-1 if n in closed else limit for n, limit in zip(self.priorities, limits, strict=True)]
        tasks: list[str] = []
        for submission in submissions:
            spec = submission.spec
            tasks += (
                submission.id,
                self._index[spec.priority],
                _due(spec),
                str(spec.start_by_ms or ""),
                spec.idempotency_key or "",
                codec.encode_spec(spec),
            )
        packed = msgspec.msgpack.encode(tasks)
        if len(packed) > LARGEST_CALL and len(submissions) > 1:
            half = len(submissions) // 2
            first = await self.submit(submissions[:half], closed=closed)
            return first + await self.submit(submissions[half:], closed=closed)
        waiting, codes, *there = await self.call("submit", [self._terms.idempotency_ttl_ms, *limits, packed])
        holders = iter(there)
        return [
            _submitted(code, submission.id, holders, waiting)
            for submission, code in zip(submissions, codes.decode(), strict=True)
        ]

    async def step(
        self,
        settlements: Sequence[Settlement],
        *,
        worker: str,
        number: int,
        shares: Sequence[int],
        wanted: int,
        asleep: float = 0.0,
    ) -> Step:
        """Settle and claim in one round trip. The same `number` again answers the same claim; see step.lua.

        `asleep`: sleep in the store until somebody marks that there is work, at most so many seconds, a tenth of a
        lease at most: a lease is counted from before the sleep, and sleeping must not eat it up.
        """
        sent = trio.current_time()
        terms = self._terms
        args: list[Argument] = [worker, number, terms.lease_ms, terms.result_ttl_ms, wanted, len(settlements), *shares]
        for settlement in settlements:
            args += _settlement(settlement)
        asleep = min(asleep, terms.lease_ms / 1000 * SLEEP_SHARE)
        now_us, wait_ms, expired, verdicts, *claims = await self.call("step", args, asleep=asleep)
        leases: list[Lease] = []
        broken: list[tuple[Lease, DecodeError]] = []
        started_us = int(now_us)
        held_until = sent + terms.lease_ms / 1000 * (1 - LEASE_MARGIN)
        for at in range(0, len(claims), 5):
            id, stored, token, attempt, queued_us = claims[at : at + 5]
            error = None
            try:
                spec = codec.decode_spec(stored)
            except DecodeError as exc:
                error, spec = exc, Spec(type="")
            lease = Lease(
                id=id.decode(),
                spec=spec,
                token=int(token),
                attempt=int(attempt),
                queued_us=int(queued_us),
                started_us=started_us,
                held_until=held_until,
                created_ms=codec.created_ms(stored),
            )
            if error is None:
                leases.append(lease)
            else:
                broken.append((lease, error))
        return Step(verdicts.decode(), leases, broken, expired, None if wait_ms < 0 else wait_ms / 1000)

    async def extend(self, leases: Sequence[Lease]) -> list[str]:
        """Renew. -> one entry a lease: "" renewed, "!" lost, else the cause for which it is to be cancelled."""
        args: list[Argument] = [self._terms.lease_ms]
        for lease in leases:
            args += (lease.id, lease.token)
        return [entry.decode() for entry in await self.call("extend", args)]

    async def progress(self, lease: Lease, report: bytes) -> bool:
        """Write a progress report. False: the lease is lost, nothing was written."""
        return bool(await self.call("progress", [lease.id, lease.token, report]))

    async def reap(self) -> list[TaskReaped]:
        """Take back expired leases, at most MOST_PER_CALL of them."""
        terms = self._terms
        reply = await self.call("reap", [MOST_PER_CALL, terms.max_reaps, REAP_PAUSE_MS, terms.result_ttl_ms])
        texts = [part.decode() for part in reply]
        return [TaskReaped(texts[at], texts[at + 1], _STATE_OF[texts[at + 2]]) for at in range(0, len(texts), 3)]

    async def cancel(self, id: str, *, cause: str) -> State | None:
        """End a waiting task; ask the worker of a running one. -> the state it is in now, None for an unknown id."""
        reply = await self.call("cancel", [id, cause, self._terms.result_ttl_ms, self.keys.channel()])
        return State(reply.decode()) if reply else None

    async def redrive(self, ids: Sequence[str]) -> list[bool]:
        """Dead tasks back into their queues, attempts counted anew. -> which were there."""
        return [bool(moved) for moved in await self.call("redrive", ["dead", *ids])]

    async def run_now(self, ids: Sequence[str]) -> list[bool]:
        """Scheduled and retrying tasks into their queues at once. -> which were there."""
        return [bool(moved) for moved in await self.call("redrive", ["waiting", *ids])]

    async def forget(self) -> int:
        """Remove what has been kept long enough; call again while the answer is above zero."""
        reply = await self.call("forget", [MOST_PER_CALL, self._terms.dlq_ttl_ms, WORKER_FORGOTTEN_MS])
        return int(sum(reply))

    async def audit(self, ids: Sequence[str], *, repair: bool) -> list[tuple[str, str, str]]:
        """What is wrong with some tasks: (id, kind, what was done about it); see audit.lua."""
        reply = await self.call("audit", [int(repair), self._terms.result_ttl_ms, *ids])
        texts = [part.decode() for part in reply]
        return list(zip(texts[::3], texts[1::3], texts[2::3], strict=True))

    async def scan(self, command: str, key: str, cursor: str, *, count: int) -> tuple[str, list[str]]:
        """One step of HSCAN or ZSCAN: the next cursor, "0" at the end, and about `count` ids."""
        following, entries = await self.connection.command(command, key, cursor, "COUNT", count)
        ids = list(entries) if isinstance(entries, dict) else [id for id, _ in _pairs(entries)]
        return _text(following), [_text(id) for id in ids]

    async def sample(self) -> QueueSampled:
        """Depths and ages of the whole queue, in one reading."""
        began = time.perf_counter()
        now_ms, running, cancelling, finished, workers, used, most, *rest = await self.call(
            "sample", [WORKER_SILENT_MS]
        )
        at_ms = int(now_ms)
        return QueueSampled(
            tuple(
                _priority_sample(name, rest[6 * n : 6 * n + 6], at_ms=at_ms) for n, name in enumerate(self.priorities)
            ),
            running,
            cancelling,
            finished,
            workers,
            int(used) / int(most) if int(most) else 0.0,
            at_ms,
            time.perf_counter() - began,
        )

    async def report(self, worker: str, info: bytes) -> None:
        """Say that a worker lives and what it has done; b"" when it leaves."""
        await self.call("report", [worker, info])

    async def workers(self) -> dict[str, tuple[int, bytes]]:
        """Worker id -> (ms since its last report, the report), for those not silent for long."""
        seen = await self.connection.command("ZRANGE", self.keys("workers_seen"), 0, -1, "WITHSCORES")
        infos = await self.connection.command("HGETALL", self.keys("workers"))
        seconds, micros = await self.connection.command("TIME")
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        pairs = _pairs(seen)
        found = infos if isinstance(infos, dict) else dict(_pairs(infos))
        return {id.decode(): (now_ms - int(float(at)), found[id]) for id, at in pairs if id in found}

    async def pause(self, priority: str) -> None:
        """No worker claims tasks of this priority until it is resumed; what runs goes on."""
        await self.connection.command("SADD", self.keys("paused"), priority)

    async def resume(self, priority: str) -> None:
        """Undo pause, and wake a worker."""
        await self.connection.command("SREM", self.keys("paused"), priority)
        await self.connection.command("RPUSH", self.keys("wake"), "1")

    async def paused(self) -> frozenset[str]:
        """The paused priorities."""
        return frozenset(name.decode() for name in await self.connection.command("SMEMBERS", self.keys("paused")))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _pairs(flat: Sequence[Any]) -> list[tuple[Any, Any]]:
    """A flat or nested reply of pairs -> tuples: RESP2 and RESP3 differ."""
    if flat and isinstance(flat[0], list | tuple):
        return [(pair[0], pair[1]) for pair in flat]
    return list(zip(flat[::2], flat[1::2], strict=True))


def _due(spec: Spec) -> str:
    if spec.delay_ms is not None:
        return f"+{spec.delay_ms}"
    return "" if spec.run_at_ms is None else str(spec.run_at_ms)


def _submitted(code: str, id: str, holders: Iterator[bytes], waiting: int) -> Submitted | Refusal:
    match code:
        case "1":
            return Submitted(id, True)
        case "2":
            return Submitted(next(holders).decode(), False)
        case "3":
            return Refusal(next(holders).decode(), True, waiting)
        case _:
            return Refusal(id, False, waiting)


def _settlement(settlement: Settlement) -> tuple[Argument, ...]:
    lease, line = settlement.lease, settlement.line
    match settlement.decision:
        case Complete(result):
            return (lease.id, lease.token, "S", "", b"" if result == b"null" else result, line)
        case RetryIn(seconds):
            return (lease.id, lease.token, "T", round(seconds * 1000), "", line)
        case Bury():
            return (lease.id, lease.token, "D", "", "", line)
        case Cancel(cause):
            return (lease.id, lease.token, "C", cause, "", line)
        case Release():
            return (lease.id, lease.token, "Q", "", "", line)
        case _ as never:
            assert_never(never)


def _priority_sample(name: str, fields: Sequence[Any], *, at_ms: int) -> PrioritySample:
    ready, scheduled, retry, dead, oldest_us, due_ms = fields
    return PrioritySample(
        name,
        ready,
        scheduled,
        retry,
        dead,
        max(0.0, at_ms / 1000 - float(oldest_us) / 1e6) if oldest_us else None,
        max(0.0, (at_ms - float(due_ms)) / 1000) if due_ms else None,
    )


def _info(reply: Any) -> dict[str, str]:
    if isinstance(reply, dict):  # redis-py parses INFO itself
        return {str(key): str(value) for key, value in reply.items()}
    return dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line)
