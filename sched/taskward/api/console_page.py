"""The console: one page for operators at /, with its script and its style. It holds no data: it asks the API for it."""

from functools import cache
from importlib.resources import files

from quart import Response

from taskward.api.auth import Scope
from taskward.api.routes import Route
from taskward.api.service import Service

# Nothing from elsewhere, nothing inline, and no page of others around it.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src data:",  # the empty icon, so that no browser asks for one
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}


def console_page(_service: Service) -> Response:
    """The frame; the script fills it."""
    return _file("index.html", "text/html; charset=utf-8")


def console_script(_service: Service) -> Response:
    """All that the page does."""
    return _file("console.js", "text/javascript; charset=utf-8")


def console_style(_service: Service) -> Response:
    """How it looks."""
    return _file("console.css", "text/css; charset=utf-8")


def _file(name: str, content_type: str) -> Response:
    return Response(_read(name), 200, HEADERS, content_type=content_type)


@cache
def _read(name: str) -> bytes:
    return files("taskward.api").joinpath("console", name).read_bytes()


ROUTES = (
    Route("GET", "/", Scope.OPEN, console_page),
    Route("GET", "/console.js", Scope.OPEN, console_script),
    Route("GET", "/console.css", Scope.OPEN, console_style),
)
