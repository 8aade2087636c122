"""`taskward check`: the settings as they will be used, and whether Redis answers."""

from dataclasses import fields
from typing import Any
from urllib.parse import urlsplit

import trio

from taskward.broker.connection import open_connection
from taskward.config import Config
from taskward.errors import BrokerUnavailable


def run(config: Config) -> int:
    """Print both. -> 0 where Redis answers, else 1."""
    for line in settings(config):
        print(line)
    url = without_password(config.redis_url)
    trouble = trio.run(_ping, config.redis_url)
    print(f"\nRedis at {url}", f"cannot be used: {trouble}" if trouble else "answers.")
    return 1 if trouble else 0


def settings(config: Config) -> list[str]:
    """A line a setting; those that are not the default are marked, with the default beside them."""
    lines = []
    for f in fields(config):
        value, name = getattr(config, f.name), f.metadata["env"]
        chosen = value != f.default
        note = f"   (default: {_text(f.default)})" if chosen else ""
        lines.append(f"{'*' if chosen else ' '} {name:<20} {_text(value)}{note}")
    return lines


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{name}:{weight}" for name, weight in value)
    return without_password(str(value)) or "-"


async def _ping(url: str) -> str:
    """'' where it answers, else why not."""
    async with open_connection(url, name="taskward-check") as connection:
        try:
            await connection.command("PING")
        except BrokerUnavailable as exc:
            return str(exc)
    return ""
