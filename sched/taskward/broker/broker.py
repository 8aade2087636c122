"""Broker: the verbs of the store. Each is one script, takes a batch and can be repeated when its reply was lost."""

import copy
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import msgspec
import redis.exceptions
import trio

from taskward.broker import messages, script
from taskward.broker.connection import Argument, Connection
from taskward.broker.keys import Keys
from taskward.broker.messages import Packed, Refusal, Settlement, Step
from taskward.broker.wire import ReplyError
from taskward.config import Config
from taskward.errors import BrokerRefused, BrokerUnavailable
from taskward.events import BrokerCalled, Observer, QueueSampled, TaskReaped
from taskward.policy.admission import depth_limits
from taskward.task import Lease, State, Submission, Submitted

# A lease is trusted for this share of its length: the rest is for clocks and round trips.
TRUSTED_SHARE = 0.8
SLEEP_SHARE = 0.1
WORKER_SILENT_MS = 15_000
WORKER_FORGOTTEN_MS = 3_600_000
REAP_PAUSE_MS = 5000
# When nobody has reaped for so long, Redis was away: workers first get the time to say what they have done meanwhile.
REAP_GAP_MS = 2000
REAP_HOLD_MS = 3000
MOST_PER_CALL = 512
HASH_ENTRIES = 10
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
    reaper_interval_ms: int
    wait_replicas: int

    @classmethod
    def of(cls, config: Config) -> "Terms":
        """The store's part of the settings."""
        return cls(*(getattr(config, name) for name in cls._fields))


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
        self._index = {name: n for n, name in enumerate(self.priorities, 1)}
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

    def over(self, connection: Connection) -> "Broker":
        """The same queue by another connection."""
        other = copy.copy(self)
        other.connection = connection
        return other

    async def call(self, name: str, args: Sequence[Argument], *, asleep: float = 0.0, replicas: int = 0) -> Any:
        """Run one script, and tell how long it took; `asleep`: when there is a marker, or after so many seconds.
        `replicas`: so many have what it wrote.
        """
        loaded = script.load(name)
        keys = self._keys_of.get(name) or self._keys_of.setdefault(name, loaded.keys(self.keys))
        marker = self.keys("wake") if asleep else ""
        began = time.perf_counter()
        try:
            reply = await self.connection.run(
                loaded, keys, [self._clock(), *args], marker=marker, seconds=asleep, replicas=replicas
            )
        except BrokerUnavailable:
            self._observe(BrokerCalled(name, time.perf_counter() - began, "unavailable"))
            raise
        if not asleep:
            self._observe(BrokerCalled(name, time.perf_counter() - began))
        return reply

    async def check(self) -> list[str]:
        """Look at the server before trusting it. -> warnings. Raises BrokerRefused for one that can evict tasks."""
        memory = messages.info(await self.connection.command("INFO", "memory"))
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and memory.get("maxmemory", "0") != "0":
            raise BrokerRefused(
                f"Redis would evict tasks (maxmemory-policy {policy}). Set: CONFIG SET maxmemory-policy noeviction"
            )
        warnings = []
        persistence = messages.info(await self.connection.command("INFO", "persistence"))
        if persistence.get("aof_enabled", "1") == "0":
            warnings.append("Redis has no AOF (appendonly no): a crash of Redis loses accepted tasks")
        replication = messages.info(await self.connection.command("INFO", "replication"))
        replicas, awaited = int(replication.get("connected_slaves", "0")), self._terms.wait_replicas
        if replicas > awaited and "min_slaves_good_slaves" not in replication:
            warnings.append(
                f"Redis has {replicas} replica(s), WAIT_REPLICAS is {awaited} and min-replicas-to-write 0: a primary "
                "that a failover has replaced goes on accepting tasks, and they are lost"
            )
        if replicas < awaited:
            warnings.append(f"Redis has {replicas} replica(s), WAIT_REPLICAS is {awaited}: no task is accepted now")
        return warnings

    async def submit(
        self, submissions: Sequence[Submission], *, closed: Collection[str] = ()
    ) -> list[Submitted | Refusal]:
        """Store tasks, or answer with those that stand for them already. At most MOST_PER_CALL.

        No new task of a `closed` priority is taken, nor of one whose share of max_queue_depth is used up.
        """
        answers: list[Submitted | Refusal] = []
        for packed in self.packed(submissions, closed=closed):
            answers += messages.submitted(packed, await self.store(packed))
        return answers

    def packed(self, submissions: Sequence[Submission], *, closed: Collection[str] = ()) -> list[Packed]:
        """The first third of `submit`, apart: what goes to the store, in one call if it fits."""
        limits = self._limits
        if closed:
            limits = [-1 if n in closed else limit for n, limit in zip(self.priorities, limits, strict=True)]
        tasks: list[str | int] = []
        for submission in submissions:
            tasks += messages.submission_fields(submission, priority=self._index[submission.spec.priority])
        terms = self._terms
        argument = msgspec.msgpack.encode((terms.idempotency_ttl_ms, terms.wait_replicas, limits, tasks))
        if len(argument) > LARGEST_CALL and len(submissions) > 1:
            half = len(submissions) // 2
            return self.packed(submissions[:half], closed=closed) + self.packed(submissions[half:], closed=closed)
        return [Packed(submissions, argument)]

    async def store(self, packed: Packed) -> Sequence[Any]:
        """The second: there and back. The third is `messages.submitted`."""
        reply: Sequence[Any] = await self.call("submit", [packed.argument], replicas=self._terms.wait_replicas)
        return reply

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
        fields, texts = messages.settlement_arguments(settlements)
        asked = (worker, number, terms.lease_ms, terms.result_ttl_ms, wanted, self.priorities, shares, fields)
        asleep = min(asleep, terms.lease_ms / 1000 * SLEEP_SHARE)
        reply = await self.call("step", [msgspec.msgpack.encode(asked), *texts], asleep=asleep)
        now_us, wait_ms, expired, verdicts, *claims = reply
        held_until = sent + terms.lease_ms / 1000 * TRUSTED_SHARE
        leases, broken = messages.claimed(claims, started_us=now_us, held_until=held_until)
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
        """Take back expired leases, at most MOST_PER_CALL of them; none for a moment after an outage, see reap.lua."""
        terms = self._terms
        gap = REAP_GAP_MS + 3 * terms.reaper_interval_ms
        args = [MOST_PER_CALL, terms.max_reaps, REAP_PAUSE_MS, terms.result_ttl_ms, gap, REAP_HOLD_MS]
        reply = await self.call("reap", args)
        texts = [part.decode() for part in reply]
        return [TaskReaped(texts[at], texts[at + 1], _STATE_OF[texts[at + 2]]) for at in range(0, len(texts), 3)]

    async def cancel(self, id: str, *, cause: str) -> State | None:
        """End a waiting task; ask the worker of a running one. -> the state it is in now, None for an unknown id."""
        reply = await self.call("cancel", [id, cause, self._terms.result_ttl_ms, self.keys.channel()])
        return State(reply.decode()) if reply else None

    async def purge(self, priority: str, *, most: int, cause: str) -> int:
        """End at most so many of the tasks that wait in it, MOST_PER_CALL or less. -> how many it were."""
        return int(await self.call("purge", [self._index[priority], most, cause, self._terms.result_ttl_ms]))

    async def redrive(self, ids: Sequence[str], *, spacing_us: int = 0, before: int = 0) -> list[bool]:
        """Dead tasks back into their queues, attempts counted anew. -> which were there.

        With `spacing_us` they start one after the other, so far apart; `before`: so many have gone at this pace before.
        """
        return [bool(moved) for moved in await self.call("redrive", ["dead", spacing_us, before, *ids])]

    async def discard(self, id: str) -> bool:
        """Remove a dead task before its time. False: it was not dead."""
        return bool(await self.call("discard", [id]))

    async def run_now(self, ids: Sequence[str]) -> list[bool]:
        """Scheduled and retrying tasks into their queues at once. -> which were there."""
        return [bool(moved) for moved in await self.call("redrive", ["waiting", 0, 0, *ids])]

    async def forget(self) -> int:
        """Remove what has been kept long enough; call again while the answer is MOST_PER_CALL or more."""
        reply = await self.call("forget", [MOST_PER_CALL, self._terms.dlq_ttl_ms, WORKER_FORGOTTEN_MS])
        return int(sum(reply))

    async def audit(self, ids: Sequence[str], *, repair: bool) -> list[tuple[str, str, str]]:
        """What is wrong with some tasks: (id, kind, what was done about it); see audit.lua."""
        reply = await self.call("audit", [int(repair), self._terms.result_ttl_ms, *ids])
        texts = [part.decode() for part in reply]
        return list(zip(texts[::3], texts[1::3], texts[2::3], strict=True))

    async def scan(self, command: str, key: str, cursor: str, *, count: int) -> tuple[str, list[str]]:
        """One step of HSCAN or ZSCAN: the next cursor, "0" at the end, and about `count` ids; fewer of a hash where the
        server cannot leave out its values, which may be large (before Valkey 8 and Redis 7.4).
        """
        if command == "HSCAN":
            try:
                following, ids = await self.connection.command(command, key, cursor, "COUNT", count, "NOVALUES")
                return messages.text(following), [messages.text(id) for id in ids]
            except (ReplyError, redis.exceptions.ResponseError):
                count = HASH_ENTRIES
        following, entries = await self.connection.command(command, key, cursor, "COUNT", count)
        return messages.text(following), [messages.text(id) for id, _ in messages.pairs(entries)]

    async def sample(self) -> QueueSampled:
        """Depths and ages of the whole queue, in one reading."""
        began = time.perf_counter()
        now_ms, running, cancelling, finished, workers, used, most, *rest = await self.call(
            "sample", [WORKER_SILENT_MS]
        )
        at_ms = int(now_ms)
        return QueueSampled(
            tuple(
                messages.priority_sample(name, rest[7 * n : 7 * n + 7], at_ms=at_ms)
                for n, name in enumerate(self.priorities)
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

    async def now_ms(self) -> int:
        """The time that everything in the store goes by: Redis' own."""
        given = self._clock()
        if given:
            return int(given) // 1000
        seconds, micros = await self.connection.command("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def workers(self) -> dict[str, tuple[int, bytes]]:
        """Worker id -> (ms since its last report, the report), for those not silent for long."""
        seen = await self.connection.command("ZRANGE", self.keys("workers_seen"), 0, -1, "WITHSCORES")
        infos = await self.connection.command("HGETALL", self.keys("workers"))
        now_ms = await self.now_ms()
        pairs = messages.pairs(seen)
        found = infos if isinstance(infos, dict) else dict(messages.pairs(infos))
        return {id.decode(): (now_ms - int(float(at)), found[id]) for id, at in pairs if id in found}

    async def pause(self, priority: str) -> None:
        """No worker claims tasks of this priority until it is resumed; what runs goes on."""
        await self.call("pause", [priority, "on"])

    async def resume(self, priority: str) -> None:
        """Undo pause, and wake a worker."""
        await self.call("pause", [priority, "off"])

    async def paused(self) -> frozenset[str]:
        """The paused priorities."""
        return frozenset(name.decode() for name in await self.connection.command("SMEMBERS", self.keys("paused")))
