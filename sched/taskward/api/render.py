"""Values -> HTTP responses."""

from typing import Any

import msgspec
from quart import Response

from taskward.broker.reading import Page
from taskward.client.view import TaskView, view
from taskward.task import State, Task

JSON = "application/json"
NDJSON = "application/x-ndjson"
encode = msgspec.json.Encoder().encode
encode_lines = msgspec.json.Encoder().encode_lines


class Accepted(msgspec.Struct, frozen=True):
    """The answer to a submission. `created` False: the task was there before; `state` null: and is forgotten."""

    id: str
    state: State | None
    created: bool


class StateOf(msgspec.Struct, frozen=True):
    """The answer to an order about one task."""

    id: str
    state: State


class TaskPage(msgspec.Struct, frozen=True):
    """A page of a listing; null where it is the last."""

    tasks: list[TaskView]
    next_page_token: str | None


def respond(
    value: Any, status: int = 200, headers: dict[str, str] | None = None, *, content_type: str = JSON
) -> Response:
    """Any value that msgspec can encode, as JSON."""
    return Response(encode(value), status, headers, content_type=content_type)


def respond_task(task: Task, status: int, now_ms: int, headers: dict[str, str] | None = None) -> Response:
    """A whole task."""
    return respond(view(task, now_ms), status, headers)


def respond_page(page: Page, now_ms: int) -> Response:
    """Whole tasks, and how to get more."""
    return respond(TaskPage([view(task, now_ms) for task in page.tasks], page.next_token))
