"""The raw keys of one queue, read past the code under test: what an operator would see with redis-cli."""

from collections.abc import Iterator
from typing import Any

import redis

_READ_ALL = """
local out = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  local kind = redis.call('TYPE', key).ok
  local read = {hash = {'HGETALL', key}, zset = {'ZRANGE', key, 0, -1, 'WITHSCORES'}, list = {'LRANGE', key, 0, -1},
                set = {'SMEMBERS', key}, string = {'GET', key}}
  out[#out + 1] = string.sub(key, #ARGV[1] + 1)
  out[#out + 1] = kind
  out[#out + 1] = redis.call(unpack(read[kind]))
end
return out
"""

Contents = dict[str, Any]


class Store:
    """`store["record"]` is one key, `store.read()` all of them. Hashes and zsets are dicts; no key is ever empty."""

    def __init__(self, client: "redis.Redis", queue: str) -> None:
        self.client = client
        self.prefix = f"taskward:{{{queue}}}:"
        self._read_all = client.register_script(_READ_ALL)

    def read(self) -> Contents:
        """Every key under the queue's prefix, whoever made it."""
        reply = self._read_all(args=[self.prefix])
        return {name: _value(kind, raw) for name, kind, raw in zip(*[iter(reply)] * 3, strict=True)}

    def __getitem__(self, name: str) -> Any:
        return self.read().get(name, {})

    def key(self, name: str) -> str:
        """The key's full name."""
        return self.prefix + name

    def clear(self) -> None:
        """Remove the queue."""
        keys = list(self.client.scan_iter(self.prefix.replace("{", "\\{") + "*"))
        if keys:
            self.client.unlink(*keys)


def _value(kind: str, raw: Any) -> Any:
    match kind:
        case "hash":
            return dict(_pairs(raw))
        case "zset":
            return {member: float(score) for member, score in _pairs(raw)}
        case "set":
            return set(raw)
        case _:
            return raw


def _pairs(flat: list[str]) -> Iterator[tuple[str, str]]:
    return zip(flat[::2], flat[1::2], strict=True)


def record(
    state: str,
    priority: str = "high",
    *,
    attempt: int = 1,
    token: int = 0,
    worker: str = "",
    queued: int = 0,
    started: int | str = "",
    finished: int | str = "",
    reaps: int = 0,
    cause: str = "",
) -> str:
    """A record as it stands in the store."""
    return "|".join(map(str, (state, token, finished, cause, priority, attempt, worker, queued, started, reaps)))


def spec(json: str, *, created: int, due: int | str = "", start_by: int | str = "", trace: str = "") -> str:
    """A spec as it stands in the store."""
    return f"{start_by},{created},{due},{trace};{json}"
