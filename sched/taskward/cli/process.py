"""What the API's and the worker's processes have in common: telemetry around everything, and a server to trust."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import trio

from taskward import __version__
from taskward.broker.broker import Broker
from taskward.broker.outage import Outage
from taskward.config import Config
from taskward.errors import BrokerUnavailable
from taskward.events import Lifecycle, Observer, fan_out
from taskward.task import Lease
from taskward.telemetry.logs import LogObserver, configure
from taskward.telemetry.metrics import Metrics

Role = Literal["api", "worker"]


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One process's observers. `span` wraps an attempt where tracing is on."""

    metrics: Metrics
    observe: Observer
    span: Callable[[Lease], AbstractContextManager[object]] | None
