"""Running: a lease in this worker's hands, from its claim until the store has recorded its end."""

import math
import sys
import traceback
from datetime import UTC, datetime

import trio

from taskward.app import Handler
from taskward.task import CancelCause, Lease
from taskward.worker.context import Context

# A scope's deadline costs more than all else a short task needs, so only one that comes near is set. The keeper looks
# at every task more often than this.
NEAR_SECONDS = 0.6
# The last year that a datetime can name, about.
_LATEST = 253_370_764_800.0


class Running:
    """The one mutable thing about a task in a worker. The slot, the keeper and the watchdog share it.

    On Trio's clock: `claimed`, `began` (a moment later, if it had to wait for a slot), and `ends_at`, when the attempt
    runs into its timeout or the task's deadline. `scope` is the slot's, from the moment it has one. `cancelling` is how
    long the handler took to stop once it was asked to.
    """

    # Set on the instance only where they change: there is one of these for every task.
    runs_into = CancelCause.TIMEOUT
    seconds = 0.0
    cancelling = 0.0
    exited = False
    stuck = False
    scope: trio.CancelScope | None = None
    context: Context | None = None
    cause: CancelCause | None = None
    cancelled_at: float | None = None
    lost_op: str | None = None
    span: object = None
    thread_id: int | None = None
    trio_task: trio.lowlevel.Task | None = None

    def __init__(self, lease: Lease, handler: Handler | None, *, label: str, timeout: float, claimed: float) -> None:
        self.lease = lease
        self.handler = handler
        self.label = label
        self.timeout = timeout
        self.claimed = self.began = claimed
        self.ends_at = math.inf
        self.held_until = lease.held_until

    def enter(self, scope: trio.CancelScope) -> None:
        """A slot begins with the task, in this scope."""
        self.scope = scope
        self.trio_task = trio.lowlevel.current_task()
        self.allow(self.timeout)
        if self.began >= self.held_until:  # the loop stood still: by now it may be another worker's
            self.cancel(CancelCause.LEASE_LOST)
        if self.cause is not None:  # cancelled between its claim and its start
            scope.cancel()

    def allow(self, seconds: float) -> None:
        """The attempt may take so long, from now on."""
        self.began = trio.current_time()
        self.ends_at = self.began + seconds
        lease = self.lease
        if lease.spec.deadline_ms is not None:
            deadline = self.claimed + lease.spec.deadline_ms / 1000 - lease.started_us / 1e6
            self.runs_into = CancelCause.DEADLINE if deadline < self.ends_at else CancelCause.TIMEOUT
            self.ends_at = min(deadline, self.ends_at)
        if self.scope is not None and self.scope.deadline != math.inf:
            self.scope.deadline = math.inf  # of what was allowed before
        self.look_at_time(self.began)

    def leave(self) -> None:
        """The handler's code has been left; its scope is no longer this task's."""
        now = trio.current_time()
        self.seconds = now - self.began
        self.cancelling = self.overdue(now) or 0.0
        self.exited = True
        if self.scope is not None and self.scope.deadline != math.inf:
            self.scope.deadline = math.inf

    def make_context(self) -> Context:
        """For a handler that asks for one."""
        deadline = self.lease.started_us / 1e6 + self.ends_at - self.claimed
        self.context = Context(self.lease, deadline=datetime.fromtimestamp(min(deadline, _LATEST), UTC))
        return self.context

    def cancel(self, cause: CancelCause) -> None:
        """Ask the handler to stop; the first cause stands, be it a time limit."""
        if not self.stopping and not self.exited:
            self.cause = cause
            self.cancelled_at = trio.current_time()
            if self.scope is not None:
                self.scope.cancel()

    def lose(self, op: str) -> None:
        """The store says that the lease is somebody else's: stop, and write nothing more."""
        if self.lost_op is None:
            self.lost_op = op
            self.cancel(CancelCause.LEASE_LOST)

    @property
    def stopping(self) -> bool:
        """The handler has been asked to stop, by a cause or by its time limit."""
        return self.cause is not None or (self.scope is not None and self.scope.cancel_called)

    def stopped_by(self) -> CancelCause:
        """Why the scope was cancelled: what somebody asked for, or else the time limit it ran into."""
        return self.cause or self.runs_into

    def look_at_time(self, now: float) -> None:
        """To be called about twice a NEAR_SECONDS: sets the scope's deadline before it comes."""
        if self.ends_at - now < NEAR_SECONDS and self.scope is not None and not self.exited:
            self.scope.deadline = self.ends_at

    def overdue(self, now: float) -> float | None:
        """Seconds since the handler was asked to stop, by a cause or by its time limit; None if it was not."""
        if self.exited or not self.stopping:
            return None
        since = self.ends_at if self.cancelled_at is None else min(self.ends_at, self.cancelled_at)
        return max(0.0, now - since)

    def stack(self) -> str:
        """Where the handler is, innermost frame last."""
        if self.thread_id is not None and (frame := sys._current_frames().get(self.thread_id)):  # noqa: SLF001 - the documented way
            return "".join(traceback.format_stack(frame))
        if self.trio_task is None:
            return ""
        return "".join(traceback.StackSummary.extract(self.trio_task.iter_await_frames()).format())
