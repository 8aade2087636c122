"""Context: what a handler may know, and say, about the task it runs."""

import logging
import math
from datetime import UTC, datetime

import trio

from taskward.codec import storable
from taskward.task import Lease, Progress, all_headers

_log = logging.getLogger("taskward.handler")


class Context:
    """Given to a handler that takes a second parameter.

    `token` grows with every lease of every task: hand it to your own stores, and let them refuse a lower one.
    `deadline` is when this attempt will be cancelled. In a process handler only the facts are there:
    progress() and check_cancelled() belong to the worker's own process.
    """

    def __init__(self, lease: Lease, *, deadline: datetime) -> None:
        self.id = lease.id
        self.type = lease.spec.type
        self.priority = lease.spec.priority
        self.attempt = lease.attempt
        self.token = lease.token
        self.headers = all_headers(lease.spec)
        self.tags = lease.spec.tags or ()
        self.queued_at = datetime.fromtimestamp(lease.queued_us / 1e6, UTC)
        self.deadline = deadline
        self.reported: Progress | None = None

    @property
    def log(self) -> "logging.LoggerAdapter[logging.Logger]":
        """A logger whose lines carry the task and the token, under the names that the worker's own lines have."""
        task = {"task_id": self.id, "type": self.type, "priority": self.priority}
        return logging.LoggerAdapter(_log, task | {"attempt": self.attempt, "token": self.token})

    def progress(self, current: float, total: float | None = None, message: str = "") -> None:
        """Say how far this is; cheap, from any thread. The latest report is stored about twice a second. A number that
        is not finite says nothing. Raises TypeError or ValueError for what is no number.
        """
        current, total = float(current), None if total is None else float(total)
        if math.isfinite(current):
            text = storable(str(message)[:500])
            self.reported = Progress(current, total if total is not None and math.isfinite(total) else None, text)

    def check_cancelled(self) -> None:
        """In a thread handler: raise trio.Cancelled if the task is to stop. Call it now and then; let it pass."""
        trio.from_thread.check_cancelled()
