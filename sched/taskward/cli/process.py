"""What the API's and the worker's processes have in common: telemetry around everything, and a server to trust."""

import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass

import trio

from taskward import __version__
from taskward.broker.broker import Broker
from taskward.broker.outage import Outage
from taskward.config import Config
from taskward.errors import BrokerUnavailable, ConfigError
from taskward.events import Observer, Trouble, fan_out
from taskward.task import Lease
from taskward.telemetry.instruments import Role
from taskward.telemetry.logs import LogObserver, configure
from taskward.telemetry.metrics import Metrics, resource
from taskward.telemetry.otlp import flushing, pushing, tracing
from taskward.telemetry.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One process's observers."""

    metrics: Metrics
    tracing: Tracing
    observe: Observer

    @property
    def traces(self) -> Tracing | None:
        """For the API, where tracing is on."""
        return self.tracing if self.tracing.enabled else None

    @property
    def span(self) -> Callable[[Lease], AbstractContextManager[object]] | None:
        """Wraps an attempt, where tracing is on."""
        return self.tracing.attempt if self.tracing.enabled else None

    def share(self) -> None:
        """With the application that this process runs, which makes its instruments and spans by OpenTelemetry's API."""
        self.metrics.share()
        self.tracing.share()


@asynccontextmanager
async def open_telemetry(
    config: Config,
    *,
    role: Role,
    instance_id: str,
    types: Sequence[str] = (),
    label: Callable[[str], str] = str,
    environ: Mapping[str, str] = os.environ,
) -> AsyncIterator[Telemetry]:
    """Logs, metrics and traces of this process; what is left of them is sent at the end, for a second at most.

    Raises ConfigError for OTEL_* settings that cannot be followed.
    """
    traces = tracing(environ, resource=resource(role, instance_id, __version__), label=label)
    configure(config.log_level, config.log_format, current_span=traces.current_span)
    metrics = Metrics(
        role,
        priorities=config.priority_names,
        types=types,
        instance_id=instance_id,
        version=__version__,
        sample_seconds=config.metrics_sample_ms / 1000,
        current_span=traces.current_span if traces.enabled else None,
        readers=pushing(environ),
    )
    observers: list[Observer] = [metrics.observe, LogObserver()]
    if traces.enabled:
        observers.append(traces.observe)
    async with flushing(metrics.shutdown, traces.shutdown):
        with metrics.loop.watching():
            yield Telemetry(metrics, traces, fan_out(*observers))


async def trusted(broker: Broker, observe: Observer, *, stop: trio.Event) -> None:
    """Wait until Redis answers, or until `stop`; then look at how it is set up.

    Raises BrokerRefused where tasks could be lost.
    """
    async with trio.open_nursery() as waiting:
        waiting.start_soon(_cancel_at, stop, waiting.cancel_scope)
        for warning in await _checked(broker, Outage("start", observe)):
            observe(Trouble("redis can lose tasks", {"warning": warning}))
        waiting.cancel_scope.cancel()


async def _checked(broker: Broker, outage: Outage) -> list[str]:
    while True:
        try:
            warnings = await broker.check()
        except BrokerUnavailable as exc:
            await outage.sit_out(exc)
        else:
            outage.over()
            return warnings


async def _cancel_at(stop: trio.Event, scope: trio.CancelScope) -> None:
    await stop.wait()
    scope.cancel()


def new_instance_id() -> str:
    """Unique per start: host, process, and a random part. No bars or spaces: it is a field of a task's record."""
    host = "".join(c if c.isalnum() or c in "-." else "-" for c in socket.gethostname())[:40]
    return f"{host}:{os.getpid()}:{secrets.token_hex(3)}"


@contextmanager
def bound(setting: str, address: str) -> Iterator[None]:
    """A port that cannot be had is one clear line: OSError to ConfigError."""
    try:
        yield
    except OSError as exc:
        raise ConfigError(f"{setting}={address}: cannot listen there: {exc.strerror or exc}") from exc
