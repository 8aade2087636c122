"""/tasks/{id}/events: a task as server-sent events, until its end.

The form of the stream: html.spec.whatwg.org/multipage/server-sent-events.html. An event's id says what of the task it
shows, so a client that comes back with `Last-Event-ID` is not told again what it knows.
"""

import zlib
from collections.abc import AsyncIterator

import msgspec
import trio
from quart import Response, request

from taskward.api.auth import Scope
from taskward.api.render import encode
from taskward.api.requests import request_nursery
from taskward.api.routes import Route
from taskward.api.service import Service
from taskward.api.streaming import respond_stream
from taskward.client.view import view
from taskward.errors import TaskNotFound
from taskward.task import Task

EVENT_STREAM = "text/event-stream"
# A comment now and then: proxies leave the connection open, and one whose client has gone is noticed.
SILENT_SECONDS = 15.0
COMMENT = b":\n\n"


async def task_events(service: Service, task_id: str) -> Response:
    """The task now, and whenever it changes. 204 where its end is known already: browsers come back no more then."""
    known = request.headers.get("Last-Event-ID", "")
    task = await service.gateway.get(task_id)
    if task.terminal and event_id(task) == known:
        return Response(b"", 204)  # a body of None would be read in an asyncio thread: there is none here
    if request.method == "HEAD":
        return Response(b"", content_type=EVENT_STREAM)
    return respond_stream(_events(service, task_id, known), request_nursery(), content_type=EVENT_STREAM, most=1)


async def _events(service: Service, task_id: str, known: str) -> AsyncIterator[bytes]:
    said = trio.current_time()
    yield COMMENT  # the head goes out, whether there is news or not
    try:
        async for task in service.gateway.looks(task_id):
            now = trio.current_time()
            if task is not None and (id := event_id(task)) != known:
                known, said = id, now
                yield b"id: %s\ndata: %s\n\n" % (id.encode(), encode(view(task, service.now_ms())))
            elif now > said + SILENT_SECONDS:
                said = now
                yield COMMENT
    except TaskNotFound:
        return  # it was removed


def event_id(task: Task) -> str:
    """The same for what looks the same to a client: not for a lease that was renewed."""
    progress = zlib.crc32(msgspec.json.encode(task.progress))
    return f"{task.state}-{task.attempt}-{task.token or 0}-{progress:08x}"


ROUTES = (Route("GET", "/tasks/{task_id}/events", Scope.READ, task_events),)
