"""redis+sentinel:// URLs, and clients that ask the sentinels named there where the primary is.

`redis+sentinel://user:password@host:port,host:port/service/db`. User and password are the servers', not the sentinels'.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import redis.asyncio.sentinel
import redis.sentinel

# redis-py has no types for its sentinels: hence each `type: ignore` below.
SCHEME = "redis+sentinel"
PORT = 26379
# The sentinels are asked one after the other, all within the bound of one call.
ASK_SECONDS = 1.0


class Address(NamedTuple):
    """Where the sentinels are, what they call the servers, and how to log in there."""

    sentinels: list[tuple[str, int]]
    service: str
    login: dict[str, Any]


def is_sentinel(url: str) -> bool:
    """Whether it is a URL of this kind."""
    return url.startswith(f"{SCHEME}://")


def parse(url: str) -> Address:
    """Raises ValueError, which does not repeat what could be a password."""
    parts = urlsplit(url)
    nodes = [urlsplit(f"//{node}") for node in parts.netloc.rpartition("@")[2].split(",")]
    service, _, db = parts.path.strip("/").partition("/")
    if not all(node.hostname for node in nodes) or not service or not (db or "0").isdecimal():
        raise ValueError(f"write {SCHEME}://host:port,host:port/service/db")
    login = {"username": parts.username, "password": parts.password}
    return Address(
        [(node.hostname or "", node.port or PORT) for node in nodes],
        service,
        {"db": int(db or 0)} | {name: unquote(text) for name, text in login.items() if text},
    )


def async_client(url: str, options: Mapping[str, Any]) -> "redis.asyncio.Redis":
    """A client of the primary. Raises like `parse`."""
    at = parse(url)
    manager = redis.asyncio.sentinel.Sentinel(at.sentinels, sentinel_kwargs=_to_ask(options))  # type: ignore[no-untyped-call]
    return manager.master_for(at.service, **at.login, **options)  # type: ignore[no-any-return]


async def close_manager(client: "redis.asyncio.Redis") -> None:
    """Give the sockets to the sentinels back, which the client's own `aclose` leaves open. On the asyncio loop."""
    await client.connection_pool.sentinel_manager.aclose()  # type: ignore[attr-defined]


def blocking_client(url: str, options: Mapping[str, Any]) -> "redis.Redis":
    """The same for a thread."""
    at = parse(url)
    manager = redis.sentinel.Sentinel(at.sentinels, sentinel_kwargs=_to_ask(options))  # type: ignore[no-untyped-call]
    return manager.master_for(at.service, **at.login, **options)  # type: ignore[no-untyped-call, no-any-return]


def _to_ask(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"socket_timeout": ASK_SECONDS, "socket_connect_timeout": ASK_SECONDS, "retry": options["retry"]}
