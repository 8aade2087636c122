"""/healthz: the process lives. /readyz: it can do its work, because Redis answers."""

import msgspec
import trio
from quart import Response

from taskward.api.auth import Scope
from taskward.api.render import respond
from taskward.api.routes import Route
from taskward.api.service import Service
from taskward.errors import BrokerUnavailable

READY_SECONDS = 2.0


class Status(msgspec.Struct, frozen=True):
    """`ok` or `ready`; what is neither is a problem."""

    status: str


def healthz(_service: Service) -> Response:
    """Answers as long as the process does."""
    return respond(Status("ok"))


async def readyz(service: Service) -> Response:
    """503 where Redis does not answer, and while this process stops."""
    if service.gateway.closing.is_set():
        raise BrokerUnavailable("this process is stopping")
    with trio.move_on_after(READY_SECONDS) as scope:
        await service.broker.sample()
    if scope.cancelled_caught:
        raise BrokerUnavailable("Redis did not answer in time")
    return respond(Status("ready"))


ROUTES = (
    Route("GET", "/healthz", Scope.OPEN, healthz),
    Route("GET", "/readyz", Scope.OPEN, readyz),
)
