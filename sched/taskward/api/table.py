"""The table of all routes; what is not in it does not exist."""

from quart import Response

from taskward.api import batch, console_page, dlq, health, metrics_summary, queues, task_events, tasks, workers
from taskward.api.auth import Scope
from taskward.api.openapi import document
from taskward.api.render import respond
from taskward.api.routes import Route
from taskward.api.service import Service


def openapi(_service: Service) -> Response:
    """The table's description of itself."""
    return respond(document(ROUTES))


ROUTES: tuple[Route, ...] = (
    *tasks.ROUTES,
    *task_events.ROUTES,
    *batch.ROUTES,
    *dlq.ROUTES,
    *queues.ROUTES,
    *workers.ROUTES,
    *metrics_summary.ROUTES,
    *health.ROUTES,
    *console_page.ROUTES,
    Route("GET", "/openapi.json", Scope.READ, openapi),
)
