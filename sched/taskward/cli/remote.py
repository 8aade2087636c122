"""What the commands that talk to the API share: one request, one answer, errors as one line."""

import ipaddress
import json
from collections.abc import Mapping
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

import msgspec

from taskward.errors import ConfigError, TaskwardError

CALL_SECONDS = 30.0


class RequestFailed(TaskwardError):
    """The API said no, or could not be asked. `status` is 0 where there was no answer."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Remote:
    """The API at `url`. Raises ConfigError where that is no http(s) URL."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"--url {url!r}: write http://host:port")
        self.url = url.rstrip("/")
        self._token = token
        self._opener = _opener(parts.hostname)

    def call(self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        """The answer's JSON. Unset (None) query values are left out. Raises RequestFailed."""
        chosen = {name: value for name, value in (query or {}).items() if value is not None}
        request = Request(self.url + path + (f"?{urlencode(chosen)}" if chosen else ""), method=method)  # noqa: S310
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        if body is not None:
            request.data = msgspec.json.encode(body)
            request.add_header("Content-Type", "application/json")
        try:
            with self._opener.open(request, timeout=CALL_SECONDS) as answer:
                return json.loads(answer.read() or b"null")
        except HTTPError as exc:
            with exc:
                raise RequestFailed(describe_problem(exc.code, exc.read()), status=exc.code) from None
        except (URLError, OSError, HTTPException) as exc:
            reason = exc.reason if isinstance(exc, URLError) else exc
            raise RequestFailed(f"{self.url} cannot be reached: {reason} (is it running? see --url)") from None
        except ValueError:
            raise RequestFailed(f"{self.url} answered something that is not JSON: is it Taskward's API?") from None


def describe_problem(status: int, body: bytes) -> str:
    """An RFC 9457 problem as one line that names the field: "422 Unprocessable: /priority: no such priority"."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        return f"the API answered {status}"
    errors = [error for error in problem.get("errors") or [problem] if isinstance(error, dict)]
    said = "; ".join(_one_line(error.get("pointer"), error.get("detail")) for error in errors)
    return ": ".join(filter(None, [f"{status} {problem.get('title') or ''}".strip(), said]))


def _one_line(pointer: object, detail: object) -> str:
    return " ".join(": ".join(str(part) for part in (pointer, detail) if part).split())


class _NoRedirects(HTTPRedirectHandler):
    """A redirect is an answer like any other: the token goes nowhere else, a POST never becomes a GET."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def _opener(host: str) -> OpenerDirector:
    # A proxy in the environment is for other machines.
    return build_opener(_NoRedirects, *([ProxyHandler({})] if _is_loopback(host) else []))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
