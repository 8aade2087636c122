"""Errors -> problem details (RFC 9457): the one table from error to status."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from quart import Response
from werkzeug import exceptions as http

from taskward import errors
from taskward.api.render import respond

CONTENT_TYPE = "application/problem+json"
UNAVAILABLE_RETRY_SECONDS = 1


class Kind(NamedTuple):
    """What an error is to a client. `word` ends the problem's type, and never changes."""

    status: int
    word: str
    title: str


INTERNAL = Kind(500, "internal", "Something went wrong on our side")
KINDS: Mapping[type[Exception], Kind] = {
    errors.UnreadableBody: Kind(400, "unreadable-body", "The body is not JSON that can be kept"),
    http.BadRequest: Kind(400, "bad-request", "The request cannot be understood"),
    http.Unauthorized: Kind(401, "unauthorized", "A valid token is needed"),
    http.Forbidden: Kind(403, "forbidden", "This is not allowed to you"),
    errors.TaskNotFound: Kind(404, "task-not-found", "There is no such task"),
    http.NotFound: Kind(404, "not-found", "There is nothing here"),
    http.MethodNotAllowed: Kind(405, "method-not-allowed", "The method does not fit the resource"),
    http.RequestTimeout: Kind(408, "request-timeout", "The request took too long to arrive"),
    errors.Conflict: Kind(409, "conflict", "The id or idempotency key belongs to a different submission"),
    errors.InvalidTransition: Kind(409, "invalid-transition", "The task's state does not allow this"),
    errors.TaskTooLarge: Kind(413, "too-large", "The payload or the body is too long"),
    http.RequestEntityTooLarge: Kind(413, "too-large", "The payload or the body is too long"),
    http.UnsupportedMediaType: Kind(415, "unsupported-media-type", "The content type is not taken here"),
    errors.InvalidTask: Kind(422, "invalid", "A field is wrong"),
    errors.QueueFull: Kind(429, "queue-full", "Too many tasks are waiting"),
    errors.MemoryLow: Kind(503, "memory-low", "Redis is short of memory"),
    errors.BrokerUnavailable: Kind(503, "unavailable", "The store does not answer: repeat the request"),
    http.InternalServerError: INTERNAL,
}


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of an error response. `pointer` (RFC 6901) names the field that is wrong."""

    type: str
    title: str
    status: int
    detail: str = ""
    pointer: str | None = None

    @property
    def word(self) -> str:
        """The end of `type`: short, fixed, fit for a label."""
        return self.type.rpartition("/")[2]


def kind_of(error: Exception) -> Kind:
    """The table's entry for an error's class, or for the nearest class above it."""
    return next((KINDS[cls] for cls in type(error).__mro__ if cls in KINDS), INTERNAL)


def problem_of(error: Exception) -> Problem:
    """An error as a client sees it; nothing of an internal one."""
    kind = kind_of(error)
    detail = ""
    if isinstance(error, errors.TaskwardError):
        detail = str(error)
    elif isinstance(error, http.HTTPException) and error.description != type(error).description:
        detail = error.description or ""  # else the library's own words, for pages that people read
    pointer = error.pointer if isinstance(error, errors.InvalidTask) else None
    return Problem(f"/problems/{kind.word}", kind.title, kind.status, detail, pointer)


def answer(error: Exception) -> Response:
    """The error as a response."""
    problem = problem_of(error)
    return respond(problem, problem.status, headers_of(error), content_type=CONTENT_TYPE)


def headers_of(error: Exception) -> dict[str, str]:
    """What belongs to the error's response beside the problem."""
    match error:
        case errors.QueueFull():
            return {"Retry-After": str(math.ceil(error.retry_after))}
        case errors.BrokerUnavailable():
            return {"Retry-After": str(UNAVAILABLE_RETRY_SECONDS)}
        case http.Unauthorized():
            return {"WWW-Authenticate": 'Bearer realm="taskward"'}
        case http.MethodNotAllowed():
            return {"Allow": ", ".join(sorted(error.valid_methods or ()))}
        case _:
            return {}
