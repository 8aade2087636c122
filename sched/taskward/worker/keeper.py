"""The keeper: renews the leases a worker holds, and tells handlers to stop when it must not go on."""

from collections.abc import Mapping

import msgspec
import trio

from taskward.broker.broker import TRUSTED_SHARE, Broker
from taskward.broker.outage import Outage
from taskward.errors import BrokerUnavailable
from taskward.events import HandlerStuck, Observer
from taskward.task import CancelCause, Progress
from taskward.worker.running import Running

PROGRESS_SECONDS = 0.5
# How often, at least, leases and handlers are looked at; renewal itself happens at a third of the lease.
LOOK_SECONDS = 0.25


class Keeper:
    """Looks after `held` (token -> Running), which the pool fills and empties."""

    def __init__(
        self,
        *,
        broker: Broker,
        held: Mapping[int, Running],
        lease_seconds: float,
        cancel_grace: float,
        observe: Observer,
    ) -> None:
        self._broker = broker
        self._held = held
        self._lease_seconds = lease_seconds
        self._cancel_grace = cancel_grace
        self._observe = observe

    async def run(self) -> None:
        """Until cancelled. It must outlive the last handler."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew_in_time)
            nursery.start_soon(self._watch_time)
            nursery.start_soon(self._hear_cancels)
            nursery.start_soon(self._store_progress)

    @property
    def stuck(self) -> int:
        """Handlers that were asked to stop and have not, for longer than the grace."""
        return sum(running.stuck and not running.exited for running in list(self._held.values()))

    async def _renew_in_time(self) -> None:
        outage = Outage("keeper", self._observe)
        while True:
            await trio.sleep(self._lease_seconds / 3)
            while self._held or outage.lasts:  # its end is told when a call has worked, even one for nothing
                try:
                    await self._renew(list(self._held.values()))
                except BrokerUnavailable as exc:
                    await outage.sit_out(exc)
                else:
                    outage.over()
                    break

    async def _renew(self, held: list[Running]) -> None:
        held = [running for running in held if running.lost_op is None]
        until = trio.current_time() + TRUSTED_SHARE * self._lease_seconds
        for running, answer in zip(held, await self._broker.extend([r.lease for r in held]), strict=True):
            if answer == "!":
                # Ended and waiting to be recorded: the settlement will hear it as well.
                if not running.exited:
                    running.lose("extend")
                continue
            running.held_until = until
            if answer:
                running.cancel(CancelCause(answer))

    async def _watch_time(self) -> None:
        """Stop what may no longer run: its time is up, or the server could give it away. Report what does not stop."""
        while True:
            await trio.sleep(min(LOOK_SECONDS, self._lease_seconds / 20))
            now = trio.current_time()
            for running in list(self._held.values()):
                running.look_at_time(now)
                if now >= running.held_until:
                    running.cancel(CancelCause.LEASE_LOST)
                overdue = running.overdue(now)
                if overdue is not None and overdue > self._cancel_grace and not running.stuck:
                    running.stuck = True
                    cause = str(running.stopped_by())
                    self._observe(HandlerStuck(running.lease, running.label, cause, overdue, running.stack()))

    async def _hear_cancels(self) -> None:
        outage = Outage("cancels", self._observe)
        while True:
            try:
                async with self._broker.connection.subscription(self._broker.keys.channel()) as receive:
                    outage.over()
                    while True:
                        message = await receive()
                        if message is not None:
                            named = message.decode()
                            if meant := [r for r in list(self._held.values()) if r.lease.id == named]:
                                await self._renew(meant)
            except BrokerUnavailable as exc:
                await outage.sit_out(exc)

    async def _store_progress(self) -> None:
        stored: dict[int, Progress] = {}
        while True:
            await trio.sleep(PROGRESS_SECONDS)
            reports = [(r, r.context.reported) for r in list(self._held.values()) if r.context and r.lost_op is None]
            stored = {r.lease.token: stored[r.lease.token] for r, _ in reports if r.lease.token in stored}
            try:
                for running, report in reports:
                    if report is not None and stored.get(running.lease.token) != report:
                        if not await self._broker.progress(running.lease, msgspec.json.encode(report)):
                            running.lose("progress")
                        stored[running.lease.token] = report
            except BrokerUnavailable:
                continue  # the next look repeats it; others tell of the outage
