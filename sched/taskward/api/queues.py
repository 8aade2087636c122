"""/queues: what waits in each priority; pause, resume and purge."""

from typing import Annotated

import msgspec
from msgspec import Meta
from quart import Response
from werkzeug.exceptions import NotFound

from taskward.api.auth import Scope
from taskward.api.render import respond
from taskward.api.requests import query
from taskward.api.routes import Route
from taskward.api.sampling import Depths, depths
from taskward.api.service import Service
from taskward.broker.broker import MOST_PER_CALL
from taskward.task import CancelCause

MOST_PURGED = 10_000


class QueueView(Depths, frozen=True, kw_only=True):
    """One priority."""

    priority: str
    paused: bool


class Queues(msgspec.Struct, frozen=True):
    """All of them, highest first; read now, not sampled."""

    queues: list[QueueView]


class Paused(msgspec.Struct, frozen=True):
    """Whether workers may claim tasks of this priority."""

    priority: str
    paused: bool


class PurgeQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many tasks at the most."""

    limit: Annotated[int, Meta(ge=1, le=MOST_PURGED)] = MOST_PURGED


class Purged(msgspec.Struct, frozen=True):
    """How many tasks were cancelled, and whether there may be more beyond the limit."""

    priority: str
    cancelled: int
    more: bool


async def list_queues(service: Service) -> Response:
    """Depths as they are now."""
    sampled, paused = await service.broker.sample(), await service.broker.paused()
    return respond(
        Queues(
            [
                QueueView(**msgspec.structs.asdict(depths(p)), priority=p.priority, paused=p.priority in paused)
                for p in sampled.priorities
            ]
        )
    )


async def pause_queue(service: Service, priority: str) -> Response:
    """No task of it starts until it is resumed; what runs goes on."""
    _require(service, priority)
    await service.broker.pause(priority)
    return respond(Paused(priority, True))


async def resume_queue(service: Service, priority: str) -> Response:
    """Undo pause."""
    _require(service, priority)
    await service.broker.resume(priority)
    return respond(Paused(priority, False))


async def purge_queue(service: Service, priority: str) -> Response:
    """Cancel what waits, those that are ready first; what runs goes on."""
    _require(service, priority)
    limit = query(PurgeQuery).limit
    cancelled = 0
    while cancelled < limit:
        most = min(MOST_PER_CALL, limit - cancelled)
        ended = await service.broker.purge(priority, most=most, cause=CancelCause.USER)
        cancelled += ended
        if ended < most:
            return respond(Purged(priority, cancelled, False))
    return respond(Purged(priority, cancelled, True))


def _require(service: Service, priority: str) -> None:
    if priority not in service.limits.priorities:
        raise NotFound(f"the priorities are {', '.join(service.limits.priorities)}")


ROUTES = (
    Route("GET", "/queues", Scope.READ, list_queues),
    Route("POST", "/queues/{priority}/pause", Scope.OPERATE, pause_queue),
    Route("POST", "/queues/{priority}/resume", Scope.OPERATE, resume_queue),
    Route("POST", "/queues/{priority}/purge", Scope.OPERATE, purge_queue),
)
