"""/workers, and where Prometheus finds every process."""

from typing import Any

import msgspec
from quart import Response
from werkzeug.exceptions import NotFound

from taskward.api.auth import Scope
from taskward.api.render import respond
from taskward.api.routes import Route
from taskward.api.sampling import ROLE, Seen, targets
from taskward.api.service import Service


class WorkerView(msgspec.Struct, frozen=True):
    """A worker: when it last spoke, and its own words."""

    id: str
    live: bool
    silent_seconds: float
    report: msgspec.Raw


class WorkerList(msgspec.Struct, frozen=True):
    """Workers that have reported in the last hour, and did not say goodbye."""

    workers: list[WorkerView]


async def list_workers(service: Service) -> Response:
    """All workers."""
    seen = await service.sampling.seen()
    return respond(WorkerList([_view(id, s) for id, s in seen.items() if s.report.role != ROLE]))


async def get_worker(service: Service, worker_id: str) -> Response:
    """One worker."""
    seen = await service.sampling.seen()
    if worker_id not in seen or seen[worker_id].report.role == ROLE:
        raise NotFound("no worker of this id has reported lately")
    return respond(_view(worker_id, seen[worker_id]))


async def prometheus_targets(service: Service) -> Response:
    """For `http_sd_configs`."""
    found: list[dict[str, Any]] = targets(await service.sampling.seen())
    return respond(found)


def _view(id: str, seen: Seen) -> WorkerView:
    return WorkerView(id, seen.live, seen.silent_ms / 1000, seen.raw)


ROUTES = (
    Route("GET", "/workers", Scope.READ, list_workers),
    Route("GET", "/workers/{worker_id}", Scope.READ, get_worker),
    Route("GET", "/prometheus/targets", Scope.READ, prometheus_targets),
)
