"""/dlq: tasks that were given up on, and their way back."""

from collections.abc import Collection, Sequence
from typing import Annotated, NamedTuple

import msgspec
import trio
from msgspec import Meta
from quart import Response

from taskward.api.auth import Scope
from taskward.api.render import StateOf, respond, respond_page
from taskward.api.requests import MAX_WAIT_SECONDS, json_object, query, require_priority
from taskward.api.routes import Route
from taskward.api.service import Service
from taskward.api.tasks import MOST_PER_PAGE
from taskward.broker import reading
from taskward.client.gateway import LONGEST_LOOK_SECONDS
from taskward.errors import DecodeError, InvalidTransition
from taskward.task import State, Task

_UNFINISHED = frozenset({State.SCHEDULED, State.QUEUED, State.RUNNING, State.CANCELLING})


class DeadQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which dead tasks, and which page of them."""

    type: str | None = None
    priority: str | None = None
    tag: str | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST_PER_PAGE)] = 50
    page_token: str | None = None


class Redrive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which dead tasks go back, oldest first. `dry_run` only counts them.

    `canary`: so many go first. The rest follows if all of them end within `canary_seconds`, and no more than
    `canary_failures` fail again. `per_second`: the rest starts at this rate.
    """

    type: str | None = None
    priority: str | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    dry_run: bool = False
    per_second: Annotated[float, Meta(ge=0.01, le=10_000)] | None = None
    canary: Annotated[int, Meta(ge=1, le=MOST_PER_PAGE)] | None = None
    canary_failures: Annotated[int, Meta(ge=0, le=MOST_PER_PAGE)] = 0
    canary_seconds: Annotated[float, Meta(gt=0, le=MAX_WAIT_SECONDS)] = 30.0


class Canary(msgspec.Struct, frozen=True):
    """What became of the first ones. `failed`: of their first attempt, or cancelled, or expired."""

    succeeded: int
    failed: int
    unfinished: int


class Redriven(msgspec.Struct, frozen=True):
    """How many fitted, how many went back, and whether there may be more beyond the limit. `stopped`: the rest stays
    dead because of the canary.
    """

    matched: int
    redriven: int
    more: bool
    dry_run: bool
    canary: Canary | None = None
    stopped: bool = False


async def list_dead(service: Service) -> Response:
    """The same as GET /tasks?state=dead."""
    asked = query(DeadQuery)
    require_priority(asked.priority, service.limits)
    dead = reading.Filter(State.DEAD, asked.type, asked.priority, asked.tag)
    page = await reading.page(service.broker, dead, size=asked.limit, token=asked.page_token)
    return respond_page(page, service.now_ms())


async def redrive(service: Service) -> Response:
    """Many at once, up to the limit; where there are canaries, these first."""
    order = await json_object(Redrive, service.max_body_bytes)
    require_priority(order.priority, service.limits)
    if order.canary is None or order.dry_run:
        moved = await _move(service, order, most=order.limit)
        return respond(Redriven(moved.matched, len(moved.ids), moved.more, order.dry_run))
    first = await _move(service, msgspec.structs.replace(order, per_second=None), most=min(order.canary, order.limit))
    canary = await _watch(service, first.ids, seconds=order.canary_seconds)
    rest = _Moved(0, [], first.more)
    stopped = canary.unfinished > 0 or canary.failed > order.canary_failures
    if not stopped and first.more and first.matched < order.limit:
        rest = await _move(service, order, most=order.limit - first.matched, besides=first.ids)
    matched, redriven = first.matched + rest.matched, len(first.ids) + len(rest.ids)
    return respond(Redriven(matched, redriven, rest.more, False, canary, stopped))


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


class _Moved(NamedTuple):
    matched: int
    ids: list[str]
    more: bool


async def _move(service: Service, order: Redrive, *, most: int, besides: Collection[str] = ()) -> _Moved:
    """Of the dead tasks that fit, as many as `most`, oldest first, `besides` some."""
    dead = reading.Filter(State.DEAD, order.type, order.priority)
    spacing_us = 0 if order.per_second is None else round(1e6 / order.per_second)
    matched, moved = 0, list[str]()
    token: str | None = None
    while True:
        size = min(MOST_PER_PAGE, most - matched)
        page = await reading.page(service.broker, dead, size=size, token=token, oldest_first=True)
        ids = [task.id for task in page.tasks if task.id not in besides]
        matched += len(ids)
        token = page.next_token
        if ids and not order.dry_run:
            there = await service.broker.redrive(ids, spacing_us=spacing_us, before=len(moved))
            moved += [id for id, was_there in zip(ids, there, strict=True) if was_there]
        if token is None or matched >= most:
            return _Moved(matched, moved, token is not None)


async def _watch(service: Service, ids: Sequence[str], *, seconds: float) -> Canary:
    """What becomes of these, as soon as it is known, or as far as it is known after `seconds`."""
    give_up = trio.current_time() + seconds
    while True:
        canary = _fared(await reading.each(service.broker, ids) if ids else [])
        left = give_up - trio.current_time()
        if not canary.unfinished or left <= 0 or service.gateway.closing.is_set():
            return canary
        await service.gateway.pause(min(left, LONGEST_LOOK_SECONDS))


def _fared(tasks: Sequence[Task | DecodeError | None]) -> Canary:
    """A second attempt means that the first has failed."""
    states = [task.state for task in tasks if isinstance(task, Task) and task.attempt <= 1]
    succeeded, unfinished = states.count(State.SUCCEEDED), sum(state in _UNFINISHED for state in states)
    return Canary(succeeded, len(tasks) - succeeded - unfinished, unfinished)


ROUTES = (
    Route("GET", "/dlq", Scope.READ, list_dead),
    Route("POST", "/dlq/redrive", Scope.OPERATE, redrive),
    Route("POST", "/dlq/{task_id}/redrive", Scope.OPERATE, redrive_task),
    Route("DELETE", "/dlq/{task_id}", Scope.OPERATE, discard_task),
)
