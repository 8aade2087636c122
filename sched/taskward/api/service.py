"""Service: what the routes work with, put together once."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, Self

import msgspec
import trio

from taskward.api.auth import Guard
from taskward.api.sampling import Sampling
from taskward.broker.broker import Broker
from taskward.client import local
from taskward.client.gateway import Gateway
from taskward.config import Config
from taskward.errors import TaskwardError
from taskward.events import Observer
from taskward.submission import Limits
from taskward.task import Submission

METRICS_ADDR = ":2112"


class Traces(Protocol):
    """What the API asks of tracing (telemetry/tracing.py), where it is on."""

    def request(
        self, method: str, route: str, headers: Mapping[str, str]
    ) -> AbstractContextManager[Callable[[int], None]]:
        """A span around one request; the value is to be told the status. Header names are in lower case."""

    def submitting(self, priority: str) -> str | None:
        """The trace context (a `traceparent`) a new task is to be stored with."""


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
    traces: Traces | None = None

    @classmethod
    def of(
        cls,
        config: Config,
        broker: Broker,
        *,
        observe: Observer,
        now_ms: Callable[[], int] = local.now_ms,
        traces: Traces | None = None,
    ) -> Self:
        """`traces` None: nothing is traced. Raises ConfigError where the tokens file cannot be used."""
        sampling = Sampling(
            broker,
            interval=config.metrics_sample_ms / 1000,
            most_memory=config.max_memory_percent / 100,
            metrics_addr=config.metrics_addr or METRICS_ADDR,
            observe=observe,
            now_ms=now_ms,
        )
        return cls(
            broker=broker,
            gateway=Gateway(broker, observe=observe, retry_after=sampling.retry_after, closed=lambda: sampling.closed),
            sampling=sampling,
            guard=Guard.of(config),
            limits=Limits.of(config),
            observe=observe,
            max_body_bytes=config.max_body_bytes,
            tokens_file=config.api_tokens_file,
            now_ms=now_ms,
            traces=traces,
        )

    def traced(self, submission: Submission) -> Submission:
        """With the trace context it is to be stored with; a client's own stays."""
        if self.traces is None or submission.spec.traceparent is not None:
            return submission
        spec = msgspec.structs.replace(submission.spec, traceparent=self.traces.submitting(submission.spec.priority))
        return msgspec.structs.replace(submission, spec=spec)

    def traced_all(self, items: Sequence[Submission | TaskwardError]) -> Sequence[Submission | TaskwardError]:
        """The same for many; errors stay in their places."""
        if self.traces is None:
            return items
        return [self.traced(item) if isinstance(item, Submission) else item for item in items]

    async def run(self) -> None:
        """The loops behind the routes, until cancelled."""
        async with trio.open_nursery() as loops:
            loops.start_soon(self.gateway.run)
            loops.start_soon(self.sampling.run)
            if self.tokens_file:
                loops.start_soon(self.guard.watch, self.tokens_file, self.observe)
