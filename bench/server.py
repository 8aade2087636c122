"""The server under test: an embedded one in a folder of its own, and what it tells of itself."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from taskward.broker.embedded import blocking_embedded_server
from taskward.broker.keys import Keys
from taskward.config import Config

PRIORITIES = Config().priority_names
KEYS = Keys(Config().queue, PRIORITIES)


class Server:
    """One server. `url` is for clients, `client` for looking at it from outside."""

    def __init__(self, url: str, client: "redis.Redis") -> None:
        self.url = url
        self.client = client

    @property
    def version(self) -> str:
        """Name and version."""
        info = self.client.info("server")
        return f"{info.get('server_name', 'redis')} {info.get('valkey_version') or info['redis_version']}"

    @property
    def cpu_seconds(self) -> float:
        """User and system time so far."""
        info = self.client.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    @property
    def script_seconds(self) -> float:
        """Time spent in scripts since `clear`."""
        return float(self.client.info("commandstats").get("cmdstat_evalsha", {}).get("usec", 0)) / 1e6

    @property
    def memory(self) -> int:
        """Bytes in use."""
        return int(self.client.info("memory")["used_memory"])

    def clear(self) -> None:
        """No keys, no statistics."""
        self.client.flushall()
        self.client.config_resetstat()

    def hold(self, *priorities: str) -> None:
        """Nobody claims these, the default priority where none is named."""
        self.client.sadd(KEYS("paused"), *(priorities or ("default",)))

    def release(self, *, workers: int = 1) -> None:
        """The default priority may be claimed, by all workers at once."""
        self.client.srem(KEYS("paused"), "default")
        self.client.rpush(KEYS("wake"), *["1"] * workers)

    def done(self) -> int:
        """Tasks that have ended."""
        return int(self.client.zcard(KEYS("done")))

    def done_rate(self) -> float:
        """Tasks ended a second, by the times the store has written: from the first to the last."""
        key = KEYS("done")
        first, last = (float(self.client.zrange(key, at, at, withscores=True)[0][1]) for at in (0, -1))
        seconds = (last - first) / 1000
        after_first = self.done() - int(self.client.zcount(key, first, first))
        return after_first / seconds if seconds else float("nan")


@contextmanager
def server(folder: Path, *, fsync: str = "") -> Iterator[Server]:
    """Runs for the length of the block, its data in `folder`: without persistence, or with AOF and this `fsync`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder) as data,
        blocking_embedded_server(Path(data), fsync=fsync or "no") as url,
        redis.Redis.from_url(url) as client,
    ):
        if not fsync:
            client.config_set("appendonly", "no")
        yield Server(url, client)
