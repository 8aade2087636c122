"""`taskward check`: the settings as they will be used, whether Redis can be trusted, and whether the books balance."""

import os
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import trio

from taskward.api.auth import Guard, bind_host
from taskward.api.service import METRICS_ADDR
from taskward.broker.broker import Broker
from taskward.broker.connection import open_connection
from taskward.config import Config, split_addr
from taskward.errors import BrokerRefused, BrokerUnavailable, ConfigError
from taskward.events import ignore
from taskward.maintenance.auditor import KINDS, Finding, audit
from taskward.telemetry.otlp import asks_for

MOST_NAMED = 10


def run(config: Config, *, store: bool = False, repair: bool = False, environ: Mapping[str, str] = os.environ) -> int:
    """Print what was found. -> 0 where all is well, else 1. Raises ConfigError, in a group, for what stops a start."""
    if repair and not store:
        raise ConfigError("--repair needs --store")
    if not store:
        for line in settings(config):
            print(line)
        print(flush=True)
        require_startable(config, environ)
    return trio.run(_run, config, store, repair)


def require_startable(config: Config, environ: Mapping[str, str]) -> None:
    """What the API and the worker look at before they start, beside Redis and the ports. Raises a group of ConfigError.

    `environ` is where the OTEL_* are.
    """
    refusals = []
    for look in (
        partial(bind_host, config),
        partial(Guard.of, config),
        partial(split_addr, "METRICS_ADDR", config.metrics_addr or METRICS_ADDR),
        partial(asks_for, environ, "metrics"),
        partial(asks_for, environ, "traces"),
    ):
        try:
            look()
        except ConfigError as exc:
            refusals.append(exc)
    if refusals:
        raise ExceptionGroup("settings that stop a start", refusals)


async def _run(config: Config, store: bool, repair: bool) -> int:
    url = without_password(config.redis_url)
    async with open_connection(config.redis_url, name="taskward-check", queue=config.queue) as connection:
        broker = Broker.of(config, connection, observe=ignore)
        try:
            for warning in await broker.check():
                print(f"warning: {warning}")
            print(f"Redis at {url} answers.")
            return await _audit(broker, config.queue, repair=repair) if store else 0
        except (BrokerUnavailable, BrokerRefused) as exc:
            print(f"Redis at {url} cannot be used: {exc}")
            if config.redis_url == Config().redis_url:
                print("`taskward dev` has a server of its own: the URL that it prints as `store` is its REDIS_URL.")
            return 1


async def _audit(broker: Broker, queue: str, *, repair: bool) -> int:
    looked_at, findings = await audit(broker, repair=repair)
    print(f"Queue {queue!r}: {looked_at} tasks looked at, {len(findings)} findings.")
    for kind, meaning in KINDS.items():
        found = [finding for finding in findings if finding.kind == kind]
        if found:
            print(f"\n{kind}: {len(found)} ({meaning})")
            for finding in found[:MOST_NAMED]:
                print(f"  {finding.id}  {finding.done}")
            if len(found) > MOST_NAMED:
                print(f"  ... and {len(found) - MOST_NAMED} more")
    if findings and not repair:
        print("\nNothing was changed. `taskward check --store --repair` mends what is safe to mend.")
    return 1 if any(_stays(finding) for finding in findings) else 0


def _stays(finding: Finding) -> bool:
    return finding.done == "left"


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
