"""A primary, its replica, and sentinels that watch them: what `redis+sentinel://` is for, as real processes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from taskward.broker.embedded import find_server
from tests.faults.server import Server
from tests.support.watching import until

SERVICE = "tasks"
# Sentinel's own pace is for networks: it looks for changes of role every ten seconds. While the primary is down it asks
# a replica once a second, and promotes none that has been silent for five ping periods.
QUICK = {"info-period": 200, "publish-period": 200, "ping-period": 400, "ask-period": 100}
DOWN_AFTER_MS = 500
FAILOVER_TIMEOUT_MS = 2000
PATIENCE = 15.0

_until = partial(until, seconds=PATIENCE)


class Sentinel(Server):
    """One sentinel, not running yet, of `quorum` that must agree that the primary is gone."""

    def __init__(self, folder: Path, primary: Server, *, quorum: int) -> None:
        self._primary = primary
        self._quorum = quorum
        super().__init__(folder)

    def command(self, folder: Path, fsync: str) -> list[str]:
        """It keeps what it learns in its configuration, so that it can be started again."""
        settings = folder / "sentinel.conf"
        settings.write_text(
            f"bind 127.0.0.1\nport {self.port}\ndir {folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self._primary.port} {self._quorum}\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {SERVICE} {FAILOVER_TIMEOUT_MS}\n"
        )
        return [str(find_server()), str(settings), "--sentinel"]

    async def start(self) -> None:
        """Until it answers, at a test's pace."""
        await super().start()
        for name, ms in QUICK.items():
            self.ask("DEBUG", name, ms)

    def ask(self, *words: str | int) -> Any:
        """SENTINEL ..."""
        return self.admin.execute_command("SENTINEL", *words)

    def trusts(self, server: Server) -> bool:
        """It takes it for the primary, and nothing is amiss or under way."""
        seen = self._see("MASTER")
        return (seen["port"], seen["flags"]) == (str(server.port), "master")

    def would_promote(self, server: Server, *, others: int) -> bool:
        """It knows it as a good replica, and so many other sentinels."""
        return int(self._see("MASTER")["num-other-sentinels"]) == others and any(
            (seen["port"], seen["flags"], seen["master-link-status"]) == (str(server.port), "slave", "ok")
            for seen in map(_pairs, self.ask("REPLICAS", SERVICE))
        )

    def _see(self, what: str) -> dict[str, str]:
        return _pairs(self.ask(what, SERVICE))


class Replicated:
    """`servers[0]` is the primary at first. Everything waits for what it names, and fails after PATIENCE seconds."""

    def __init__(self, folder: Path, *, sentinels: int) -> None:
        self.servers = [Server(folder / "one"), Server(folder / "two")]
        quorum = sentinels // 2 + 1
        self.sentinels = [Sentinel(folder / f"s{n}", self.servers[0], quorum=quorum) for n in range(sentinels)]

    @property
    def url(self) -> str:
        """As an operator writes it."""
        nodes = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{nodes}/{SERVICE}/0"

    async def start(self) -> None:
        """Until the replica follows and every sentinel knows of it and of the others."""
        one, two = self.servers
        for server in self.servers:
            await server.start()
            server.admin.config_set("repl-diskless-sync-delay", "0")
        two.admin.replicaof("127.0.0.1", one.port)
        for sentinel in self.sentinels:
            await sentinel.start()
        await self.settled(one, two)

    async def settled(self, primary: Server, replica: Server) -> None:
        """Until everybody agrees on it, and another failover could follow."""
        others = len(self.sentinels) - 1
        await self.promoted(primary)
        await _until(lambda: follows(replica, primary))
        await _until(lambda: all(s.would_promote(replica, others=others) for s in self.sentinels))

    async def replicated(self) -> None:
        """Until the replica has everything that the primary has acknowledged so far."""
        one, two = sorted(self.servers, key=role)
        written = one.admin.info("replication")["master_repl_offset"]
        await _until(lambda: two.admin.info("replication")["slave_repl_offset"] >= written)

    async def promoted(self, server: Server) -> None:
        """Until `server` is the primary, and every sentinel that runs says so."""
        await _until(lambda: role(server) == "master" and all(sentinel.trusts(server) for sentinel in self.sentinels))

    def close(self) -> None:
        """End all, however they are."""
        for server in (*self.sentinels, *self.servers):
            server.close()


@asynccontextmanager
async def replicated(folder: Path, *, sentinels: int = 1) -> AsyncIterator[Replicated]:
    """All of it, running, for the length of the block."""
    group = Replicated(folder, sentinels=sentinels)
    try:
        await group.start()
        yield group
    finally:
        group.close()


def role(server: Server) -> str:
    """master or slave."""
    return str(server.admin.info("replication")["role"])


def follows(server: Server, primary: Server) -> bool:
    """It is the other's replica, and in touch with it."""
    seen = server.admin.info("replication")
    return (seen["role"], seen.get("master_port"), seen.get("master_link_status")) == ("slave", primary.port, "up")


def _pairs(reply: Any) -> dict[str, str]:
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
