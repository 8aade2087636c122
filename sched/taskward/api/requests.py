"""Parsing: what a request asks for, as typed values; raises what problems.py knows."""

import re
from typing import TypeVar, cast

import msgspec
import trio
from quart import request
from werkzeug.exceptions import UnsupportedMediaType

from taskward.api.connection import HttpRequest, RequestBody
from taskward.api.render import JSON
from taskward.errors import InvalidTask
from taskward.submission import Limits, check_priority, convert, escape, read_object

MAX_WAIT_SECONDS = 60
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})\"?\s*(?:$|[,;])", re.IGNORECASE)

Struct = TypeVar("Struct", bound=msgspec.Struct)


def body() -> RequestBody:
    """The body that HttpConnection feeds."""
    return cast(RequestBody, request.body)


def request_nursery() -> trio.Nursery:
    """What is started in it ends with this request."""
    return cast(HttpRequest, request).nursery


async def json_body(most: int) -> bytes:
    """A whole body of application/json, still unparsed."""
    require_content_type(JSON)
    return await body().read(most)


async def json_object(kind: type[Struct], most: int) -> Struct:
    """A whole body as the fields of `kind`."""
    return read_object(await json_body(most), kind)


def require_content_type(*wanted: str) -> str:
    """-> which of them it is. Raises UnsupportedMediaType."""
    if request.mimetype not in wanted:
        raise UnsupportedMediaType(f"send {' or '.join(wanted)}")
    return str(request.mimetype)


def query(kind: type[Struct]) -> Struct:
    """The query string as the fields of `kind`: unknown and repeated ones are refused like those of a body."""
    given: dict[str, str] = {}
    for name, value in request.args.items(multi=True):
        if name in given:
            raise InvalidTask("given twice", pointer="/" + escape(name))
        given[name] = value
    return convert(given, kind, strict=False)


def require_priority(priority: str | None, limits: Limits) -> None:
    """As a submission's, where one is named. Raises InvalidTask."""
    if priority is not None:
        check_priority(priority, limits)


def preferred_wait() -> int | None:
    """Seconds of `Prefer: wait=N` (RFC 7240), at most MAX_WAIT_SECONDS; None where there is no such preference."""
    found = _WAIT.search(request.headers.get("Prefer", ""))
    return min(int(found[1]), MAX_WAIT_SECONDS) if found else None
