"""URLs that say whom to ask where the primary is, and clients that ask.

`redis+sentinel://user:password@host:port,host:port/service/db`: sentinels. User and password are the servers'.
`redis+cluster://user:password@host:port,host:port`: nodes of a Cluster. All keys of a queue are in one slot, so one
primary at a time has them: which, any node can tell.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import redis.asyncio.sentinel
import redis.crc
import redis.exceptions
import redis.sentinel

from taskward.broker.keys import Keys

# redis-py has no types for its sentinels: hence each `type: ignore` below.
SENTINEL, CLUSTER = "redis+sentinel", "redis+cluster"
PORTS = {SENTINEL: 26379, CLUSTER: 6379}
# They are asked one after the other, all within the bound of one call.
ASK_SECONDS = 1.0
_NO_ANSWER = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, redis.exceptions.ResponseError)

Node = tuple[str, int]


class Address(NamedTuple):
    """Whom to ask, how to log in to the servers, and what the sentinels call these: "" for a Cluster."""

    nodes: list[Node]
    service: str
    login: dict[str, Any]


def is_discovered(url: str) -> bool:
    """Whether it is a URL of these kinds."""
    return url.startswith((f"{SENTINEL}://", f"{CLUSTER}://"))


def parse(url: str) -> Address:
    """Raises ValueError, which does not repeat what could be a password."""
    parts = urlsplit(url)
    nodes = [urlsplit(f"//{node}") for node in parts.netloc.rpartition("@")[2].split(",")]
    service, _, db = parts.path.strip("/").partition("/")
    sentinels = parts.scheme == SENTINEL
    if not all(node.hostname for node in nodes) or bool(service) != sentinels or not (db or "0").isdecimal():
        raise ValueError(f"write {parts.scheme}://host:port,host:port{'/service/db' if sentinels else ''}")
    login = {"username": parts.username, "password": parts.password}
    return Address(
        [(node.hostname or "", node.port or PORTS[parts.scheme]) for node in nodes],
        service,
        {"db": int(db or 0)} | {name: unquote(text) for name, text in login.items() if text},
    )


def async_client(url: str, options: Mapping[str, Any], *, queue: str) -> "redis.asyncio.Redis":
    """A client of the primary. Raises like `parse`."""
    at, asking = parse(url), _to_ask(options)
    if not at.service:
        pool = redis.asyncio.sentinel.SentinelConnectionPool(queue, _Cluster(at, asking), **at.login, **options)  # type: ignore[no-untyped-call]
        return redis.asyncio.Redis.from_pool(pool)
    manager = redis.asyncio.sentinel.Sentinel(at.nodes, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    return manager.master_for(at.service, **at.login, **options)  # type: ignore[no-any-return]


async def close_manager(client: "redis.asyncio.Redis") -> None:
    """Give the sockets to the sentinels back, which the client's own `aclose` leaves open. On the asyncio loop."""
    await client.connection_pool.sentinel_manager.aclose()  # type: ignore[attr-defined]


def blocking_client(url: str, options: Mapping[str, Any], *, queue: str) -> "redis.Redis":
    """The same for a thread."""
    at, asking = parse(url), _to_ask(options)
    if not at.service:
        pool = redis.sentinel.SentinelConnectionPool(queue, _BlockingCluster(at, asking), **at.login, **options)  # type: ignore[no-untyped-call]
        return redis.Redis.from_pool(pool)
    manager = redis.sentinel.Sentinel(at.nodes, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    return manager.master_for(at.service, **at.login, **options)  # type: ignore[no-untyped-call, no-any-return]


def _to_ask(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"socket_timeout": ASK_SECONDS, "socket_connect_timeout": ASK_SECONDS, "retry": options["retry"]}


class _Nodes:
    """What is known of a Cluster. redis-py's pools ask it at each new connection, as they would ask a sentinel."""

    def __init__(self, at: Address, asking: Mapping[str, Any]) -> None:
        self._options = {**asking, **at.login}
        self._named = at.nodes
        self._nodes = deque(at.nodes)
        self._why = ""

    def _in_turn(self) -> Iterator[Node]:
        """Each once, beginning with another one each time: one that is cut off does not know that it is."""
        for _ in range(len(self._nodes)):
            self._nodes.rotate(-1)
            yield self._nodes[-1]

    def _owner(self, slots: Sequence[Any], queue: str, *, host: str) -> Node | None:
        """The primary of a queue by what the node at `host` says, which is meant where an address has no host.

        The answer's form: valkey.io/commands/cluster-slots.
        """
        slot = redis.crc.key_slot(Keys(queue, ()).channel().encode())
        owner = None
        seen = set(self._named)
        for first, last, *there in slots:
            primary, *replicas = [(at[0].decode() if at[0] else host, int(at[1])) for at in there]
            seen |= {primary, *replicas}
            if first <= slot <= last:
                owner = primary
        self._nodes = deque([*(node for node in self._nodes if node in seen), *seen.difference(self._nodes)])
        if owner is None:
            self._why = f"nobody has slot {slot}"
        return owner

    def _nobody(self) -> redis.exceptions.ConnectionError:
        return redis.exceptions.ConnectionError(f"no node of the cluster says which of them has the queue: {self._why}")


class _Cluster(_Nodes):
    async def discover_master(self, queue: str) -> Node:
        """Raises redis-py's ConnectionError."""
        for host, port in self._in_turn():
            async with redis.asyncio.Redis(host=host, port=port, **self._options) as node:
                try:
                    slots = await node.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
                except _NO_ANSWER as exc:
                    self._why = str(exc)
                else:
                    if owner := self._owner(slots, queue, host=host):
                        return owner
        raise self._nobody()

    async def aclose(self) -> None:
        """Nothing stays open between two questions."""


class _BlockingCluster(_Nodes):
    def discover_master(self, queue: str) -> Node:
        """Raises redis-py's ConnectionError."""
        for host, port in self._in_turn():
            with redis.Redis(host=host, port=port, **self._options) as node:
                try:
                    slots = node.execute_command("CLUSTER SLOTS")
                except _NO_ANSWER as exc:
                    self._why = str(exc)
                else:
                    if owner := self._owner(slots, queue, host=host):
                        return owner
        raise self._nobody()
