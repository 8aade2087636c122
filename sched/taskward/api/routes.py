"""Route: one row of the API's table of routes. What is not in the table does not exist."""

from collections.abc import Callable
from typing import Any, NamedTuple

from taskward.api.auth import Scope

# (Service, **the path's parameters) -> Response, async or not
Handler = Callable[..., Any]


class Route(NamedTuple):
    """`path` is written as in OpenAPI; the handler gets the Service and the path's parameters."""

    method: str
    path: str
    scope: Scope
    handler: Handler

    @property
    def name(self) -> str:
        """Unique: the handler's name."""
        return self.handler.__name__

    @property
    def rule(self) -> str:
        """The path as Werkzeug writes it."""
        return self.path.replace("{", "<").replace("}", ">")


def by_name(routes: tuple[Route, ...]) -> dict[str, Route]:
    """Raises ValueError where two routes have handlers of one name."""
    table = {route.name: route for route in routes}
    if len(table) != len(routes):
        raise ValueError("two handlers have the same name")
    return table
