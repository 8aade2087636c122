"""A Cluster of three primaries, one of them with a replica: what `redis+cluster://` is for, as real processes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import redis
import redis.crc

from taskward.broker.keys import Keys
from tests.faults.server import Server
from tests.support.ports import free_ports
from tests.support.watching import until

SLOTS = 16_384
NODE_TIMEOUT_MS = 1000
PATIENCE = 30.0

_until = partial(until, seconds=PATIENCE)


class Clustered:
    """`owner` has the slot of `queue`, and is followed by `replica`. What waits fails after PATIENCE seconds."""

    def __init__(self, folder: Path, *, queue: str) -> None:
        self.slot = redis.crc.key_slot(Keys(queue, ()).channel().encode())
        self.owner, self.replica, *self.others = self.nodes = [
            Server(folder / name, options=_options(folder / name)) for name in ("one", "two", "three", "four")
        ]

    @property
    def url(self) -> str:
        """As an operator writes it; the owner is not among those who are asked first."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.others)

    async def start(self) -> None:
        """Until every node knows of every other, and the replica follows."""
        for node in self.nodes:
            await node.start()
        primaries = [self.owner, *self.others]
        bounds = [0, *(SLOTS * n // 3 for n in (1, 2)), SLOTS]
        # The owner's comes first.
        ranges = sorted(pairwise(bounds), key=lambda at: not at[0] <= self.slot < at[1])
        for number, (node, (first, end)) in enumerate(zip(primaries, ranges, strict=True), 1):
            _ask(node, "SET-CONFIG-EPOCH", number)
            _ask(node, "ADDSLOTSRANGE", first, end - 1)
        for node in self.nodes[1:]:
            _ask(node, "MEET", "127.0.0.1", self.owner.port, *_bus(self.owner))
        await _until(lambda: all(len(_nodes(node)) == 4 for node in self.nodes))
        _ask(self.replica, "REPLICATE", _id(self.owner))
        await self.settled()
        await _until(lambda: _link(self.replica) == "up")

    async def settled(self) -> None:
        """Until all that run agree that every slot is served."""
        await _until(lambda: all(_ask(node, "INFO").get("cluster_state") == "ok" for node in self.nodes))

    async def replicated(self) -> None:
        """Until the replica has everything that the owner has acknowledged so far."""
        written = self.owner.admin.info("replication")["master_repl_offset"]
        await _until(lambda: self.replica.admin.info("replication")["slave_repl_offset"] >= written)

    async def kill_owner(self) -> None:
        """kill -9."""
        self.nodes.remove(self.owner)
        await self.owner.kill()

    async def promoted(self) -> None:
        """Until the replica is the primary, and all that run say so."""
        await _until(lambda: all(_owner_port(node, self.slot) == self.replica.port for node in self.nodes))

    def migrate(self, to: Server) -> None:
        """Give the slot to another primary, key by key, as every resharding tool does."""
        source, target = _id(self.owner), _id(to)
        _ask(to, "SETSLOT", self.slot, "IMPORTING", source)
        _ask(self.owner, "SETSLOT", self.slot, "MIGRATING", target)
        while keys := _ask(self.owner, "GETKEYSINSLOT", self.slot, 1):
            self.owner.admin.migrate("127.0.0.1", to.port, keys, 0, 5000)
        for node in (to, self.owner, *self.others):
            _ask(node, "SETSLOT", self.slot, "NODE", target)

    def close(self) -> None:
        """End all, however they are."""
        for node in {self.owner, *self.nodes}:
            node.close()


@asynccontextmanager
async def clustered(folder: Path, *, queue: str) -> AsyncIterator[Clustered]:
    """All of it, running, for the length of the block."""
    cluster = Clustered(folder, queue=queue)
    try:
        await cluster.start()
        yield cluster
    finally:
        cluster.close()


def _options(folder: Path) -> list[str]:
    [bus] = free_ports(1)
    return [
        *("--cluster-enabled", "yes"),
        *("--cluster-port", str(bus)),
        *("--cluster-config-file", str(folder / "nodes.conf")),
        *("--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
        *("--repl-diskless-sync-delay", "0"),
    ]


def _ask(node: Server, *words: str | int) -> Any:
    """CLUSTER ..."""
    return node.admin.execute_command(f"CLUSTER {words[0]}", *words[1:])


def _bus(node: Server) -> list[int]:
    return [int(node.admin.config_get("cluster-port")["cluster-port"])]


def _id(node: Server) -> str:
    return str(node.admin.execute_command("CLUSTER MYID"))


def _nodes(node: Server) -> dict[str, dict[str, str]]:
    return {at: seen for at, seen in _ask(node, "NODES").items() if "handshake" not in seen["flags"]}


def _owner_port(node: Server, slot: int) -> int:
    return next((int(primary[1]) for first, last, primary, *_ in _ask(node, "SLOTS") if first <= slot <= last), 0)


def _link(replica: Server) -> str:
    return str(replica.admin.info("replication").get("master_link_status"))
