"""Schedules: tasks that are submitted again and again, when a cron expression says so. Pure: the time is handed in.

Expressions are those of crontab(5) as Debian's cron understands them, in a time zone; so is what happens when its
clocks are turned.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from taskward.errors import ConfigError

LONGEST_GRACE_SECONDS = 31 * 86_400
_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When to submit a task, and what is the same in all of them. A firing that nobody could submit in time, because no
    worker ran, is submitted up to `misfire_grace_seconds` late. Raises ConfigError for what is no schedule.
    """

    name: str
    cron: str
    timezone: str
    type: str
    payload: Any
    priority: str | None
    tags: tuple[str, ...]
    misfire_grace_seconds: float = 0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"schedule {self.name!r}: a name is 1 to 40 of A-Z a-z 0-9 _ and -")
        try:
            first = next(self._from(datetime.now(UTC)), None)
        except CronSimError as exc:
            raise ConfigError(f"schedule {self.name!r}: cron expression {self.cron!r}: {exc}") from exc
        except (ZoneInfoNotFoundError, ValueError) as exc:
            raise ConfigError(f"schedule {self.name!r}: time zone {self.timezone!r}: {exc}") from exc
        if first is None:
            raise ConfigError(f"schedule {self.name!r}: {self.cron!r} never comes")
        if not 0 <= self.misfire_grace_seconds <= LONGEST_GRACE_SECONDS:
            raise ConfigError(f"schedule {self.name!r}: misfire_grace_seconds is 0 to {LONGEST_GRACE_SECONDS}")

    def firings(self, *, after_ms: int, until_ms: int) -> Iterator[int]:
        """Those after one moment, up to another and at it. Unix ms."""
        for firing in self._from(datetime.fromtimestamp(after_ms / 1000, UTC)):
            at_ms = round(firing.timestamp() * 1000)
            if at_ms > until_ms:
                return
            if at_ms > after_ms:
                yield at_ms

    def latest(self, *, until_ms: int) -> int | None:
        """The last one up to a moment and at it, in Unix ms; None where none was."""
        moment = datetime.fromtimestamp((until_ms + 1) / 1000, UTC)
        firing = next(self._from(moment, backwards=True), None)
        return None if firing is None else round(firing.timestamp() * 1000)

    def id_of(self, at_ms: int) -> str:
        """The id of the task of one firing: whoever submits it, it is one task."""
        return f"{self.name}-{datetime.fromtimestamp(at_ms / 1000, UTC):%Y%m%dT%H%M%SZ}"

    def _from(self, moment: datetime, *, backwards: bool = False) -> Iterator[datetime]:
        return iter(CronSim(self.cron, moment.astimezone(ZoneInfo(self.timezone)), reverse=backwards))
