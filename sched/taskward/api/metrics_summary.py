"""/metrics/summary: the state of things for a screen, without asking Prometheus."""

from quart import Response

from taskward.api.auth import Scope
from taskward.api.render import respond
from taskward.api.routes import Route
from taskward.api.service import Service


def metrics_summary(service: Service) -> Response:
    """The latest sample, throughput, p95 and failures of the last minute."""
    return respond(service.sampling.summary())


ROUTES = (Route("GET", "/metrics/summary", Scope.READ, metrics_summary),)
