"""What the commands that talk to the API share: one request, one answer, errors as one line."""

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from taskward.address import bearer, connection_to
from taskward.errors import TaskwardError

# Longer than the API waits for a task's end.
CALL_SECONDS = 75.0


# What a proxy answers for an API that is not there, and an API for a Redis that is not.
AWAY = (502, 503, 504)
UNAUTHORIZED = 401


class RequestFailed(TaskwardError):
    """The API said no, or could not be asked."""


class ApiAway(RequestFailed):
    """The API is not there, or cannot serve now: the same request may be answered later."""


class Remote:
    """The API at `url`, which may take so many seconds for an answer.

    Raises ConfigError where that is no address, or `token` no token.
    """

    def __init__(self, url: str, *, token: str = "", seconds: float = CALL_SECONDS) -> None:
        self._url = url
        self._connection, self._prefix = connection_to(url, seconds=seconds)
        self._headers = {"Authorization": f"Bearer {bearer(token)}"} if token.strip() else {}

    def call(self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        """The answer's JSON. Query values that are None are left out. Raises RequestFailed; ApiAway may pass."""
        chosen = {name: value for name, value in (query or {}).items() if value is not None}
        target = self._prefix + path + (f"?{urlencode(chosen)}" if chosen else "")
        headers = self._headers | ({} if body is None else {"Content-Type": "application/json"})
        try:
            self._connection.request(method, target, None if body is None else msgspec.json.encode(body), headers)
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()
            raise ApiAway(f"no answer from {self._url}: {exc} (does the API run? see --url)") from None
        if answer.status >= 300:
            kind = ApiAway if answer.status in AWAY else RequestFailed
            raise kind(describe_problem(answer.status, text))
        try:
            return json.loads(text)
        except ValueError:
            raise RequestFailed(f"{self._url} answers with something that is not JSON: is it Taskward's API?") from None


def describe_problem(status: int, body: bytes) -> str:
    """An RFC 9457 problem as one line, the field first: "/priority: one of high, default, low (422)".

    A 401 says where the token is read from.
    """
    hint = ": set TASKWARD_TOKEN to a token of this API" if status == UNAUTHORIZED else ""
    return _problem(status, body) + hint


def _problem(status: int, body: bytes) -> str:
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        return f"the API answers {status}"
    said = [problem.get("pointer"), problem.get("detail") or problem.get("title")]
    return " ".join(": ".join(str(part) for part in said if part).split()) + f" ({status})"
