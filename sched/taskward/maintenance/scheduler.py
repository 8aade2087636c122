"""The scheduler: brings the tasks of schedules into the store a little before they are due.

Every worker of an application does so. A firing's id is made of its schedule and its time, so it is one task whoever
comes first, and once it is stored it needs none of them any more.
"""

from collections.abc import Sequence

import msgspec

from taskward.broker.broker import Broker
from taskward.client.fields import Item, encode
from taskward.client.gateway import Gateway
from taskward.errors import BrokerUnavailable, ConfigError, InvalidTask, QueueFull, TaskwardError
from taskward.schedule import Schedule
from taskward.submission import Limits, parse
from taskward.task import Submission

AHEAD_MS = 60_000


class Scheduler:
    """Raises ConfigError where the tasks of a schedule would be refused. `kept_ms`: for so long the store knows a task
    that has ended.
    """

    def __init__(
        self, schedules: Sequence[Schedule], *, broker: Broker, gateway: Gateway, limits: Limits, kept_ms: int
    ) -> None:
        self.schedules = schedules
        self._kept_ms = kept_ms
        self._broker = broker
        self._gateway = gateway
        self._tasks = [(schedule, _task(schedule, limits)) for schedule in schedules]
        # Up to when each schedule's firings are in the store, or were left out.
        self._until: dict[str, int] = {}

    async def tick(self) -> None:
        """Submit what fires within the next minute. Raises BrokerUnavailable.

        What there was no room for, or no Redis, is submitted later; of several that are late, only the last.
        """
        now_ms = await self._broker.now_ms()
        for schedule, task in self._tasks:
            started_ms = now_ms - round(schedule.misfire_grace_seconds * 1000)
            since = self._until.setdefault(schedule.name, started_ms)
            firings = due(schedule, since_ms=since, now_ms=now_ms, kept_ms=self._kept_ms)
            if firings:
                answers = await self._gateway.submit_many([_firing(schedule, task, at_ms) for at_ms in firings])
                for at_ms, answer in zip(firings, answers, strict=True):
                    if isinstance(answer, BrokerUnavailable | QueueFull):
                        break
                    self._until[schedule.name] = at_ms


def due(schedule: Schedule, *, since_ms: int, now_ms: int, kept_ms: int) -> list[int]:
    """The firings to submit now, of those after `since_ms`.

    None that another worker may have submitted so long ago that the store has forgotten it: it would run again.
    """
    since_ms = max(since_ms, now_ms - max(0, kept_ms - AHEAD_MS))
    ahead_ms = min(AHEAD_MS, kept_ms)  # one that is cancelled before its time must be known until then
    latest = schedule.latest(until_ms=now_ms)
    late = [] if latest is None or latest <= since_ms else [latest]
    return late + list(schedule.firings(after_ms=max(since_ms, now_ms), until_ms=now_ms + ahead_ms))


def _task(schedule: Schedule, limits: Limits) -> Submission:
    item = Item(type=schedule.type, payload=schedule.payload, tags=list(schedule.tags))
    if schedule.priority is not None:
        item["priority"] = schedule.priority
    try:
        return parse(encode(item), limits, now_ms=0)
    except TaskwardError as exc:
        at = f"{exc.pointer}: " if isinstance(exc, InvalidTask) and exc.pointer else ""
        raise ConfigError(f"schedule {schedule.name!r}: {at}{exc}") from exc


def _firing(schedule: Schedule, task: Submission, at_ms: int) -> Submission:
    return Submission(schedule.id_of(at_ms), msgspec.structs.replace(task.spec, run_at_ms=at_ms))
