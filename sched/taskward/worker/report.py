"""What a worker says of itself: published to the store for GET /workers, the summary and service discovery."""

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import trio

from taskward.schedule import Schedule
from taskward.worker.keeper import Keeper
from taskward.worker.pool import Pool
from taskward.worker.watchdog import Watchdog

MOST_RUNNING_SHOWN = 100


class Report:
    """The report of one worker. `work` gives the cumulative totals of what it ran (telemetry)."""

    def __init__(
        self,
        *,
        worker_id: str,
        pool: Pool,
        keeper: Keeper,
        watchdog: Watchdog,
        metrics_addr: str,
        types: list[str],
        schedules: Sequence[Schedule],
        work: Callable[[], dict[str, Any]],
        now_ms: Callable[[], int],
    ) -> None:
        self._pool = pool
        self._keeper = keeper
        self._watchdog = watchdog
        self._work = work
        self._now_ms = now_ms
        self._fixed = {
            "id": worker_id,
            "role": "worker",
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_ms": now_ms(),
            "concurrency": pool.concurrency,
            "types": types,
            "schedules": [{"name": s.name, "cron": s.cron, "timezone": s.timezone, "type": s.type} for s in schedules],
            "metrics_addr": metrics_addr,
        }

    def render(self) -> bytes:
        """JSON; the tasks shown are the longest running."""
        now = trio.current_time()
        oldest = sorted(self._pool.held.values(), key=lambda r: r.began)[:MOST_RUNNING_SHOWN]
        running = [
            {
                "id": r.lease.id,
                "type": r.label,
                "priority": r.lease.spec.priority,
                "attempt": r.lease.attempt,
                "seconds": round(now - r.began, 3),
                "cancelling": str(r.stopped_by()) if r.stopping else None,
                "stuck": r.stuck,
                "stack": r.stack() if r.stuck else None,
            }
            for r in oldest
            if not r.exited
        ]
        return msgspec.json.encode(
            self._fixed
            | {
                "at_ms": self._now_ms(),
                "busy": self._pool.busy,
                "draining": self._pool.draining,
                "stuck": self._keeper.stuck,
                "loop_blocked": self._watchdog.loop_blocked,
                "running": running,
                "work": self._work(),
            }
        )
