"""The address of an API -> a connection to it. A module of its own: a command that asks the API does not load Redis."""

import http.client
from urllib.parse import urlsplit

from taskward.errors import ConfigError


def connection_to(url: str, *, seconds: float) -> tuple[http.client.HTTPConnection, str]:
    """A connection that is opened by its first request, and what stands before every path. Raises ConfigError.

    No call waits longer than `seconds`. Proxies are not used, redirects not followed.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("http", "https"):
        raise ConfigError(f"{url!r} is no address of an API: write http://host:port")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(host, port, timeout=seconds), parts.path.rstrip("/")
