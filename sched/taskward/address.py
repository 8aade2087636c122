"""The address of an API -> a connection to it. A module of its own: a command that asks the API does not load Redis."""

import http.client
import re
from urllib.parse import urlsplit

from taskward.errors import ConfigError


def connection_to(url: str, *, seconds: float) -> tuple[http.client.HTTPConnection, str]:
    """A connection that is opened by its first request, and what stands before every path. Raises ConfigError.

    No call waits longer than `seconds`. Proxies are not used, redirects not followed.
    """
    wrong = ConfigError(f"{url!r} is no address of an API: write http://host:port")
    try:
        parts = urlsplit(url)
        host, kind = parts.hostname or "", _KINDS.get(parts.scheme)
        host.encode("idna")  # a label that is empty or too long: the resolver raises what is no OSError
        if kind is None or not host or not _PATH.fullmatch(parts.path):
            raise wrong
        return kind(host, parts.port, timeout=seconds), parts.path.rstrip("/")
    except (ValueError, http.client.InvalidURL):
        raise wrong from None


_KINDS = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
_PATH = re.compile(r"[!-~]*")


def bearer(token: str) -> str:
    """A token without white space around it. Raises ConfigError, which does not show it, for what no header holds."""
    token = token.strip()
    if not (token.isascii() and token.isprintable()):
        raise ConfigError("the token (TASKWARD_TOKEN, or token=) holds characters that no token has")
    return token
