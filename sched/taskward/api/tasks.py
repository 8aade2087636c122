"""/tasks: submit one, look at one or many, cancel, run now."""

from typing import Annotated

import msgspec
from msgspec import Meta
from quart import Response, g

from taskward.api.auth import Scope
from taskward.api.render import Accepted, StateOf, respond, respond_page, respond_task
from taskward.api.requests import MAX_WAIT_SECONDS, json_body, preferred_wait, query, require_priority
from taskward.api.routes import Route
from taskward.api.service import Service
from taskward.broker import reading
from taskward.errors import InvalidTask, InvalidTransition, TaskNotFound
from taskward.submission import parse
from taskward.task import TERMINAL, State, Submission

MOST_PER_PAGE = 200
_Wait = Annotated[float, Meta(ge=0, le=MAX_WAIT_SECONDS)]


class WaitQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the answer may wait for the task to end, in seconds."""

    wait: _Wait = 0.0


class ListQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which tasks, and which page of them."""

    state: State | msgspec.UnsetType = msgspec.UNSET
    type: str | None = None
    priority: str | None = None
    tag: str | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST_PER_PAGE)] = 50
    page_token: str | None = None

    def filter(self) -> reading.Filter:
        """The part that chooses."""
        state = None if self.state is msgspec.UNSET else self.state
        return reading.Filter(state, self.type, self.priority, self.tag)


async def accept_task(service: Service, body: bytes) -> tuple[Accepted, int]:
    """What a submission means, whichever way it came. -> the answer, and its status."""
    now_ms = service.now_ms()
    submission = service.traced(parse(body, service.limits, now_ms))
    submitted = await service.gateway.submit(submission)
    if submitted.created:
        return Accepted(submitted.id, _first_state(submission, now_ms), True), 202
    return Accepted(submitted.id, await _state_of(service, submitted.id), False), 200


async def submit_task(service: Service) -> Response:
    """202 for a new task, 200 for a replay, or for one that ended within `Prefer: wait=N`: then the task itself, to
    whom may read it.
    """
    accepted, status = await accept_task(service, await json_body(service.max_body_bytes))
    location = {"Location": f"/tasks/{accepted.id}"}
    wait = preferred_wait()
    if not wait:
        return respond(accepted, status, location)
    headers = location | {"Preference-Applied": f"wait={wait}"}
    try:
        task = await service.gateway.wait(accepted.id, seconds=wait)
    except TaskNotFound:  # accepted, and forgotten since
        return respond(msgspec.structs.replace(accepted, state=None), 200, headers)
    status = 200 if task.terminal else 202
    if Scope.READ not in g.scopes:
        return respond(msgspec.structs.replace(accepted, state=task.state), status, headers)
    return respond_task(task, status, service.now_ms(), headers)


async def get_task(service: Service, task_id: str) -> Response:
    """The task; with `wait`, once it has ended or the time is over."""
    task = await service.gateway.wait(task_id, seconds=query(WaitQuery).wait)
    return respond_task(task, 200, service.now_ms())


async def list_tasks(service: Service) -> Response:
    """A page of tasks, place by place (docs/api.md)."""
    asked = _asked()
    require_priority(asked.priority, service.limits)
    page = await reading.page(service.broker, asked.filter(), size=asked.limit, token=asked.page_token)
    return respond_page(page, service.now_ms())


async def cancel_task(service: Service, task_id: str) -> Response:
    """200 where the task has ended, 202 while its worker stops it; with `wait`, the task itself to whom may read it."""
    wait = query(WaitQuery).wait
    state = await service.gateway.cancel(task_id)
    if wait:
        task = await service.gateway.wait(task_id, seconds=wait)
        if Scope.READ in g.scopes:
            return respond_task(task, 200 if task.terminal else 202, service.now_ms())
        state = task.state
    return respond(StateOf(task_id, state), 200 if state in TERMINAL else 202)


async def run_task_now(service: Service, task_id: str) -> Response:
    """Do not wait for the due time of a scheduled or retrying task."""
    if not (await service.broker.run_now([task_id]))[0]:
        task = await service.gateway.get(task_id)
        raise InvalidTransition(f"the task is {task.state}; only a scheduled or retrying one waits for a time")
    return respond(StateOf(task_id, State.QUEUED))


def _asked() -> ListQuery:
    try:
        return query(ListQuery)
    except InvalidTask as exc:
        if "enum" not in str(exc):
            raise
        raise InvalidTask(f"one of {', '.join(State)}", pointer=exc.pointer) from None


def _first_state(submission: Submission, now_ms: int) -> State:
    spec = submission.spec
    waits = spec.delay_ms or (spec.run_at_ms is not None and spec.run_at_ms > now_ms)
    return State.SCHEDULED if waits else State.QUEUED


async def _state_of(service: Service, id: str) -> State | None:
    try:
        return (await service.gateway.get(id)).state
    except TaskNotFound:
        return None  # its key is remembered longer than the task was


ROUTES = (
    Route("POST", "/tasks", Scope.SUBMIT, submit_task),
    Route("GET", "/tasks", Scope.READ, list_tasks),
    Route("GET", "/tasks/{task_id}", Scope.READ, get_task),
    Route("POST", "/tasks/{task_id}/cancel", Scope.OPERATE, cancel_task),
    Route("POST", "/tasks/{task_id}/run-now", Scope.OPERATE, run_task_now),
)
