"""/queues: what waits in each priority; pause and resume."""

import msgspec
from quart import Response
from werkzeug.exceptions import NotFound

from taskward.api.auth import Scope
from taskward.api.render import respond
from taskward.api.routes import Route
from taskward.api.sampling import Depths, depths
from taskward.api.service import Service


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


def _require(service: Service, priority: str) -> None:
    if priority not in service.limits.priorities:
        raise NotFound(f"the priorities are {', '.join(service.limits.priorities)}")


ROUTES = (
    Route("GET", "/queues", Scope.READ, list_queues),
    Route("POST", "/queues/{priority}/pause", Scope.OPERATE, pause_queue),
    Route("POST", "/queues/{priority}/resume", Scope.OPERATE, resume_queue),
)
