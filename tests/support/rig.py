"""The rig: a Broker on a queue of its own with a clock the test moves, its raw keys, and short forms of the verbs."""

from collections.abc import Sequence
from typing import Any

import redis
import trio

from taskward.broker.broker import Broker, Terms
from taskward.broker.connection import Connection
from taskward.broker.messages import Refusal, Settlement, Step
from taskward.events import Event
from taskward.policy.retry import Complete, Decision, RetryIn
from taskward.task import Lease, Spec, Submission, Submitted
from tests.support.clock import Clock
from tests.support.store import Store

PRIORITIES = ("high", "low")
TERMS = Terms(
    lease_ms=10_000,
    result_ttl_ms=60_000,
    dlq_ttl_ms=600_000,
    idempotency_ttl_ms=30_000,
    max_reaps=3,
    max_queue_depth=0,
    reaper_interval_ms=10_000_000,  # no jump of the clock is an outage
    wait_replicas=0,
)


class Rig:
    """One queue under test."""

    def __init__(self, connection: Connection, client: "redis.Redis", *, queue: str, **terms: int) -> None:
        self.clock = Clock()
        self.store = Store(client, queue)
        self.seen: list[Event] = []
        self.connection = connection
        self.queue = queue
        self.broker = self.broker_with(**terms)
        self._number = 0

    def broker_with(self, **terms: int) -> Broker:
        """Another Broker on the same queue and clock, with other terms."""
        return Broker(
            self.connection,
            queue=self.queue,
            priorities=PRIORITIES,
            terms=TERMS._replace(**terms),
            observe=self.seen.append,
            clock=self.clock,
        )

    async def submit(self, *ids: str, **fields: Any) -> list[Submitted | Refusal]:
        """One call for all ids, with equal specs."""
        return await self.broker.submit([task(id, **fields) for id in ids])

    async def step(
        self,
        *settlements: Settlement,
        wanted: int = 0,
        worker: str = "w1",
        number: int | None = None,
        shares: Sequence[int] | None = None,
        asleep: float = 0.0,
    ) -> Step:
        """Numbers grow by themselves; without shares the highest priority comes first."""
        self._number += 1
        return await self.broker.step(
            settlements,
            worker=worker,
            number=number or self._number,
            shares=shares or [wanted] + [0] * (len(PRIORITIES) - 1),
            wanted=wanted,
            asleep=asleep,
        )

    async def claim(self, wanted: int = 1, *, worker: str = "w1", **more: Any) -> list[Lease]:
        """Just the leases."""
        return (await self.step(wanted=wanted, worker=worker, **more)).leases

    async def until_asleep(self, workers: int) -> None:
        """Until so many clients of the server wait for a marker; nobody else may be blocked there."""
        with trio.fail_after(5):
            while self.store.client.info("clients")["blocked_clients"] < workers:
                await trio.sleep(0.01)  # the server tells nobody

    async def running(self, *ids: str, **fields: Any) -> list[Lease]:
        """Submit and claim."""
        await self.submit(*ids, **fields)
        leases = await self.claim(len(ids))
        assert [lease.id for lease in leases] == list(ids)
        return leases

    async def one_of_each_that_is_not_dead(self) -> list[str]:
        """-> their ids, and one of nobody's."""
        await self.submit("scheduled", delay_ms=5000)
        _, retrying, succeeded = await self.running("running", "retrying", "succeeded")
        await self.settle(retrying, RetryIn(9.0, "exception"))
        await self.settle(succeeded, Complete(b"1"))
        await self.submit("queued")
        return ["scheduled", "running", "retrying", "succeeded", "queued", "nobody"]

    async def settle(self, lease: Lease, decision: Decision, line: bytes = b"") -> str:
        """The verdict."""
        return (await self.step(Settlement(lease, decision, line))).verdicts


def task(id: str, *, type: str = "t", priority: str = "high", **fields: Any) -> Submission:
    """A submission with little to say."""
    return Submission(id, Spec(type=type, priority=priority, **fields))
