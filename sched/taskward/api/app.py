"""create_app: the HTTP application, made of the table of routes."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import ParamSpec, TypeVar

import trio
from quart import Response, g, request
from quart_trio import QuartTrio

from taskward.api import batch, tasks
from taskward.api.auth import Scope
from taskward.api.connection import HttpConnection, HttpRequest
from taskward.api.problems import KINDS, answer, kind_of
from taskward.api.routes import Route, by_name
from taskward.api.service import Service, Traces
from taskward.api.table import ROUTES
from taskward.events import HttpAnswered, SubmissionRefused

SUBMITTING = frozenset({tasks.submit_task.__name__, batch.submit_batch.__name__})
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
RESPONSE_SECONDS = 30

P = ParamSpec("P")
T = TypeVar("T")


class InLoop(QuartTrio):
    """Quart runs plain functions in threads; ours are quick and run where they are called."""

    asgi_http_class = HttpConnection
    request_class = HttpRequest

    def sync_to_async(self, func: Callable[P, T]) -> Callable[P, Awaitable[T]]:
        """What Quart calls plain functions with."""

        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            await trio.lowlevel.checkpoint()
            return func(*args, **kwargs)

        return call


def create_app(service: Service, routes: tuple[Route, ...] = ROUTES) -> QuartTrio:
    """Raises ValueError where a rule has no scope."""
    app = InLoop(__name__, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=None, RESPONSE_TIMEOUT=RESPONSE_SECONDS, PROPAGATE_EXCEPTIONS=False)
    table = by_name(routes)
    for route in routes:
        handler = app.ensure_async(route.handler)
        if service.traces:
            handler = partial(_in_span, handler, route, service.traces)
        app.add_url_rule(
            route.rule,
            route.name,
            partial(handler, service),
            methods=[route.method],
            provide_automatic_options=False,
            strict_slashes=True,
        )
    scopes = {name: route.scope for name, route in table.items()}
    if bare := [rule.rule for rule in app.url_map.iter_rules() if not isinstance(scopes.get(rule.endpoint), Scope)]:
        raise ValueError(f"routes without a scope: {', '.join(bare)}")
    _watch(app, service, table)
    return app


async def _in_span(
    handler: Callable[..., Awaitable[Response]], route: Route, traces: Traces, service: Service, **parameters: str
) -> Response:
    headers = {name.lower(): value for name, value in request.headers.items()}
    with traces.request(route.method, route.path, headers) as answered:
        try:
            response = await handler(service, **parameters)
        except Exception as error:
            answered(kind_of(error).status)
            raise
        answered(response.status_code)
        return response


def _watch(app: QuartTrio, service: Service, table: dict[str, Route]) -> None:
    """What happens before, after, and instead of every route."""

    @app.before_request
    def admit() -> None:
        g.began = time.perf_counter()
        route = table.get(request.endpoint or "")
        g.scopes = service.guard.admit(
            route.scope if route else None,
            authorization=request.headers.get("Authorization", ""),
            host=request.headers.get("Host", ""),
            site=request.headers.get("Sec-Fetch-Site", ""),
            origin=request.headers.get("Origin", ""),
            now=datetime.now(UTC),
        )

    @app.after_request
    def tell(response: Response) -> Response:
        route = table.get(request.endpoint or "")
        service.observe(
            HttpAnswered(
                request.method if request.method in METHODS else "_OTHER",
                route.path if route else "unmatched",
                response.status_code,
                time.perf_counter() - g.began,
            )
        )
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    def refuse(error: Exception) -> Response:
        if request.endpoint in SUBMITTING:
            service.observe(SubmissionRefused(kind_of(error).word))
        return answer(error)

    for kind in KINDS:
        app.register_error_handler(kind, refuse)
