"""/dlq: tasks that were given up on, and their way back."""

from typing import Annotated

import msgspec
from msgspec import Meta
from quart import Response

from taskward.api.auth import Scope
from taskward.api.render import StateOf, respond, respond_page
from taskward.api.requests import json_object, query
from taskward.api.routes import Route
from taskward.api.service import Service
from taskward.api.tasks import MOST_PER_PAGE
from taskward.broker import reading
from taskward.errors import InvalidTransition
from taskward.task import State


class DeadQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which dead tasks, and which page of them."""

    type: str | None = None
    priority: str | None = None
    tag: str | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST_PER_PAGE)] = 50
    page_token: str | None = None


class Redrive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which dead tasks go back, oldest first. `dry_run` only counts them."""

    type: str | None = None
    priority: str | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    dry_run: bool = False


class Redriven(msgspec.Struct, frozen=True):
    """How many fitted, how many went back, and whether there may be more beyond the limit."""

    matched: int
    redriven: int
    more: bool
    dry_run: bool


async def list_dead(service: Service) -> Response:
    """The same as GET /tasks?state=dead."""
    asked = query(DeadQuery)
    dead = reading.Filter(State.DEAD, asked.type, asked.priority, asked.tag)
    page = await reading.page(service.broker, dead, size=asked.limit, token=asked.page_token)
    return respond_page(page, service.now_ms())


async def redrive(service: Service) -> Response:
    """Many at once, up to the limit."""
    order = await json_object(Redrive, service.max_body_bytes)
    return respond(await _redrive(service, order))


async def redrive_task(service: Service, task_id: str) -> Response:
    """One."""
    if not (await service.broker.redrive([task_id]))[0]:
        task = await service.gateway.get(task_id)
        raise InvalidTransition(f"the task is {task.state}; only a dead one can be redriven")
    return respond(StateOf(task_id, State.QUEUED))


async def discard_task(service: Service, task_id: str) -> Response:
    """One, and all that is kept of it."""
    if not await service.broker.discard(task_id):
        task = await service.gateway.get(task_id)
        raise InvalidTransition(f"the task is {task.state}; only a dead one can be discarded")
    return Response(b"", 204)


async def _redrive(service: Service, order: Redrive) -> Redriven:
    dead = reading.Filter(State.DEAD, order.type, order.priority)
    matched = redriven = 0
    token: str | None = None
    while True:
        page = await reading.page(service.broker, dead, size=min(MOST_PER_PAGE, order.limit - matched), token=token)
        matched += len(page.tasks)
        token = page.next_token
        if page.tasks and not order.dry_run:
            redriven += sum(await service.broker.redrive([task.id for task in page.tasks]))
        if token is None or matched >= order.limit:
            return Redriven(matched, redriven, token is not None, order.dry_run)


ROUTES = (
    Route("GET", "/dlq", Scope.READ, list_dead),
    Route("POST", "/dlq/redrive", Scope.OPERATE, redrive),
    Route("POST", "/dlq/{task_id}/redrive", Scope.OPERATE, redrive_task),
    Route("DELETE", "/dlq/{task_id}", Scope.OPERATE, discard_task),
)
