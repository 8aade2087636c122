"""The real thing behind the model's verbs: Broker, its answers brought to the model's form."""

from collections.abc import Collection, Sequence

from taskward.broker.broker import Broker
from taskward.broker.messages import Refusal, Settlement
from taskward.policy.retry import Decision
from taskward.task import Lease, Spec, State, Submission, Submitted
from tests.model.books import Claimed, Stepped


class Real:
    """One queue on a real server."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.reap = broker.reap
        self.discard = broker.discard
        self.run_now = broker.run_now
        self.forget = broker.forget
        self.report = broker.report
        self.pause = broker.pause
        self.resume = broker.resume

    async def submit(
        self, submissions: Sequence[Submission], closed: Collection[str] = ()
    ) -> list[Submitted | Refusal]:
        return await self._broker.submit(submissions, closed=closed)

    async def step(
        self,
        worker: str,
        number: int,
        settlements: Sequence[tuple[str, int, Decision, bytes]],
        wanted: int,
        shares: Sequence[int],
    ) -> Stepped:
        step = await self._broker.step(
            [Settlement(_lease(id, token), decision, line) for id, token, decision, line in settlements],
            worker=worker,
            number=number,
            shares=shares,
            wanted=wanted,
        )
        claims = tuple(Claimed(lease.id, lease.token, lease.attempt, lease.queued_us) for lease in step.leases)
        return Stepped(step.verdicts, claims, step.expired, step.wait)

    async def extend(self, leases: Sequence[tuple[str, int]]) -> list[str]:
        return await self._broker.extend([_lease(id, token) for id, token in leases])

    async def progress(self, id: str, token: int, report: bytes) -> bool:
        return await self._broker.progress(_lease(id, token), report)

    async def cancel(self, id: str, cause: str) -> State | None:
        return await self._broker.cancel(id, cause=cause)

    async def purge(self, priority: str, most: int, cause: str) -> int:
        return await self._broker.purge(priority, most=most, cause=cause)

    async def redrive(self, ids: Sequence[str], spacing_us: int, before: int) -> list[bool]:
        return await self._broker.redrive(ids, spacing_us=spacing_us, before=before)

    async def leave(self, worker: str) -> None:
        await self._broker.report(worker, b"")

    async def pop_marker(self) -> bool:
        return await self._broker.connection.command("LPOP", self._broker.keys("wake")) is not None


def _lease(id: str, token: int) -> Lease:
    return Lease(id=id, spec=Spec(type="t"), token=token, attempt=1, queued_us=0, started_us=0, held_until=0.0)
