"""The scrape port, served by the loop it reports on: a thread would starve just when the loop is busy."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import trio

from taskward import http11
from taskward.http11 import Limits, Request, Response
from taskward.telemetry.exposition import Exposition
from taskward.telemetry.metrics import Metrics

Readiness = tuple[bool, Mapping[str, object]]
Ready = Callable[[], Readiness]

# A scraper keeps one connection.
LIMITS = Limits(idle_seconds=120.0, head_seconds=5.0, write_seconds=10.0, connections=64)


async def serve_scrapes(
    metrics: Metrics,
    *,
    host: str,
    port: int,
    ready: Ready,
    limits: Limits = LIMITS,
    task_status: trio.TaskStatus[Sequence[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """GET `/metrics` (and `/`), `/healthz`, `/readyz`, until cancelled. `host` "" is every interface, `port` 0 any.

    `/readyz` answers what `ready` says, 200 or 503. Raises OSError where the address cannot be bound.
    """
    answer = _Endpoint(Exposition(metrics.registry), ready)
    listeners = await trio.open_tcp_listeners(port, host=host or None)
    task_status.started(listeners)
    await http11.serve(answer, listeners, limits=limits)


class _Endpoint:
    def __init__(self, exposition: Exposition, ready: Ready) -> None:
        self._exposition = exposition
        self._ready = ready
        self._routes: Mapping[bytes, Callable[[Request], Awaitable[Response]]] = {
            b"/": self._metrics,
            b"/metrics": self._metrics,
            b"/healthz": self._healthz,
            b"/readyz": self._readyz,
        }

    async def __call__(self, request: Request) -> Response:
        route = self._routes.get(request.path)
        if route is None:
            return Response(404, b"404 not found: try /metrics, /healthz or /readyz\n")
        if request.method not in ("GET", "HEAD"):
            return Response(405, b"405 only GET and HEAD\n", headers=(("Allow", "GET, HEAD"),))
        return await route(request)

    async def _metrics(self, request: Request) -> Response:
        body, headers = await self._exposition.render(
            accept=request.headers.get(b"accept", b"").decode("latin-1"),
            accept_encoding=request.headers.get(b"accept-encoding", b"").decode("latin-1"),
        )
        return Response(200, body, headers.pop("Content-Type"), tuple(headers.items()))

    async def _healthz(self, request: Request) -> Response:  # noqa: ARG002 - a route's signature
        return Response(200, b"alive\n")

    async def _readyz(self, request: Request) -> Response:  # noqa: ARG002 - a route's signature
        ready, reasons = self._ready()
        body = msgspec.json.encode({"ready": ready, "reasons": dict(reasons)})
        return Response(200 if ready else 503, body, "application/json", (("Cache-Control", "no-store"),))
