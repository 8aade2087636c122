"""Service: what the routes work with, put together once."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import trio

from taskward.api.auth import Guard
from taskward.api.sampling import Sampling
from taskward.broker.broker import Broker
from taskward.client.gateway import Gateway
from taskward.config import Config
from taskward.events import Observer
from taskward.submission import Limits

METRICS_ADDR = ":2112"


def unix_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Its owner runs `run` while requests are served."""

    broker: Broker
    gateway: Gateway
    sampling: Sampling
    guard: Guard
    limits: Limits
    observe: Observer
    max_body_bytes: int
    tokens_file: str
    now_ms: Callable[[], int]

    @classmethod
    def of(cls, config: Config, broker: Broker, *, observe: Observer, now_ms: Callable[[], int] = unix_ms) -> Self:
        """Raises ConfigError where the tokens file cannot be used."""
        sampling = Sampling(
            broker,
            interval=config.metrics_sample_ms / 1000,
            metrics_addr=config.metrics_addr or METRICS_ADDR,
            observe=observe,
            now_ms=now_ms,
        )
        return cls(
            broker=broker,
            gateway=Gateway(broker, observe=observe, retry_after=sampling.retry_after),
            sampling=sampling,
            guard=Guard.of(config),
            limits=Limits.of(config),
            observe=observe,
            max_body_bytes=config.max_body_bytes,
            tokens_file=config.api_tokens_file,
            now_ms=now_ms,
        )

    async def run(self) -> None:
        """The loops behind the routes, until cancelled."""
        async with trio.open_nursery() as loops:
            loops.start_soon(self.gateway.run)
            loops.start_soon(self.sampling.run)
            if self.tokens_file:
                loops.start_soon(self.guard.watch, self.tokens_file, self.observe)
