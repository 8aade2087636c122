"""The API's description of itself: OpenAPI 3.1, from the table of routes, the types behind it, and the words here."""

import re
from functools import cache
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

from taskward.api import batch, dlq, health, queues, tasks, workers
from taskward.api.auth import Scope
from taskward.api.problems import CONTENT_TYPE, KINDS, Problem
from taskward.api.render import JSON, NDJSON, Accepted, StateOf, TaskPage
from taskward.api.routes import Route
from taskward.api.sampling import Summary
from taskward.client.view import TaskView
from taskward.submission import Fields

VERSION = "1"
SCHEMAS = "#/components/schemas/"


class Said(NamedTuple):
    """What a route takes and answers, by its handler's name."""

    summary: str
    answers: dict[int, type | None]
    body: type | None = None
    query: type[msgspec.Struct] | None = None
    problems: tuple[int, ...] = ()
    media: str = JSON


_SUBMIT_PROBLEMS = (400, 408, 409, 413, 415, 422, 429)
SAID: dict[str, Said] = {
    "submit_task": Said(
        "Submit a task. `Prefer: wait=N` waits up to 60 seconds for its end and answers with the whole task.",
        {202: Accepted, 200: Accepted},
        body=Fields,
        problems=_SUBMIT_PROBLEMS,
    ),
    "submit_batch": Said(
        "Submit many: a JSON array, or a stream with one task a line, answered with one result a line.",
        {200: batch.BatchAnswer},
        body=list[Fields],
        problems=(400, 408, 413, 415, 422),
    ),
    "list_tasks": Said(
        "List tasks, those that have ended newest first.", {200: TaskPage}, query=tasks.ListQuery, problems=(422,)
    ),
    "get_task": Said("Look at a task.", {200: TaskView}, query=tasks.WaitQuery, problems=(404, 422)),
    "task_events": Said(
        "Follow a task by server-sent events, until its end; 204 where `Last-Event-ID` says that this is known.",
        {200: None, 204: None},
        problems=(404,),
        media="text/event-stream",
    ),
    "cancel_task": Said("Cancel a task.", {200: StateOf, 202: StateOf}, query=tasks.WaitQuery, problems=(404, 422)),
    "run_task_now": Said("Do not wait for a task's due time.", {200: StateOf}, problems=(404, 409)),
    "list_dead": Said("List dead tasks, newest first.", {200: TaskPage}, query=dlq.DeadQuery, problems=(422,)),
    "redrive": Said("Put dead tasks back.", {200: dlq.Redriven}, body=dlq.Redrive, problems=(400, 408, 413, 415, 422)),
    "redrive_task": Said("Put a dead task back.", {200: StateOf}, problems=(404, 409)),
    "discard_task": Said("Remove a dead task.", {204: None}, problems=(404, 409)),
    "list_queues": Said("Depths of the priorities.", {200: queues.Queues}),
    "pause_queue": Said("Start no more tasks of a priority.", {200: queues.Paused}, problems=(404,)),
    "resume_queue": Said("Undo pause.", {200: queues.Paused}, problems=(404,)),
    "purge_queue": Said(
        "Cancel what waits in a priority.", {200: queues.Purged}, query=queues.PurgeQuery, problems=(404, 422)
    ),
    "list_workers": Said("Workers and what they run.", {200: workers.WorkerList}),
    "get_worker": Said("One worker.", {200: workers.WorkerView}, problems=(404,)),
    "prometheus_targets": Said("Processes to scrape, for http_sd_configs.", {200: None}),
    "metrics_summary": Said("The last sample, and the rates of the last minute.", {200: Summary}),
    "healthz": Said("The process lives.", {200: health.Status}),
    "readyz": Said("Redis answers.", {200: health.Status}),
    "console_page": Said("The console, a page for people.", {200: None}, media="text/html"),
    "console_script": Said("Its script.", {200: None}, media="text/javascript"),
    "console_style": Said("Its style.", {200: None}, media="text/css"),
    "openapi": Said("This document.", {200: None}),
}
# Where an answer is one of two things: with a wait it is the task itself.
_OR_THE_TASK = frozenset({"submit_task", "cancel_task"})


@cache
def document(routes: tuple[Route, ...]) -> dict[str, Any]:
    """OpenAPI 3.1 for these routes. Raises KeyError where one is not described."""
    types = {type for said in SAID.values() for type in (*said.answers.values(), said.body) if type is not None}
    ordered = sorted(types | {TaskView, Problem}, key=str)
    schemas, components = msgspec.json.schema_components(ordered, ref_template=SCHEMAS + "{name}")
    schema_of = dict(zip(ordered, schemas, strict=True))
    _raw_is_anything(components)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, SAID[route.name], schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Taskward", "version": VERSION},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, said: Said, schema_of: dict[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": said.summary,
        "parameters": _path_parameters(route) + _query_parameters(said.query),
        "responses": _responses(route, said, schema_of),
    }
    if said.body is not None:
        content = {JSON: {"schema": schema_of[said.body]}}
        if route.name == "submit_batch":
            content[NDJSON] = {"schema": {"type": "string"}}
        operation["requestBody"] = {"required": True, "content": content}
    if route.scope is not Scope.OPEN:
        operation["security"] = [{"bearer": [str(route.scope)]}]
    return operation


def _responses(route: Route, said: Said, schema_of: dict[Any, Any]) -> dict[str, Any]:
    found = {}
    for status, type in said.answers.items():
        schema = schema_of[type] if type is not None else {}
        if route.name in _OR_THE_TASK:
            schema = {"anyOf": [schema, schema_of[TaskView]]}
        content = {said.media: {"schema": schema}} if status != HTTPStatus.NO_CONTENT else {}
        if route.name == "submit_batch":
            content[NDJSON] = {"schema": {"type": "string"}}
        found[str(status)] = {"description": said.summary, "content": content}
    guarded = () if route.scope is Scope.OPEN else (401, 403)
    for status in sorted({*said.problems, *guarded, 500, 503}):
        titles = sorted({kind.title for kind in KINDS.values() if kind.status == status})
        found[str(status)] = {
            "description": "; ".join(titles),
            "content": {CONTENT_TYPE: {"schema": schema_of[Problem]}},
        }
    return found


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    names = re.findall(r"\{(\w+)\}", route.path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(query: type[msgspec.Struct] | None) -> list[dict[str, Any]]:
    if query is None:
        return []
    _, components = msgspec.json.schema_components([query], ref_template=SCHEMAS + "{name}")
    properties = components[query.__name__]["properties"]
    return [{"name": name, "in": "query", "schema": _without_null(schema)} for name, schema in properties.items()]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is there or not; it cannot be null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else {key: value for key, value in schema.items() if key != "default"}


def _raw_is_anything(components: dict[str, Any]) -> None:
    """What a worker says of itself is its own affair."""
    components["WorkerView"]["properties"]["report"] = {"type": "object"}
