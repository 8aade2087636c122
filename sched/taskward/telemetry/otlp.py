"""OTLP: what the standard OTEL_* variables ask to send, metrics and traces, and the end of all sending."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Literal

import trio

from taskward.errors import ConfigError
from taskward.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricReader

# A dead collector delays the end of a process by so much.
CLOSE_SECONDS = 1.0

Signal = Literal["traces", "metrics"]


def asks_for(environ: Mapping[str, str], signal: Signal) -> bool:
    """Whether OTEL_* asks to send this signal. Raises ConfigError for a protocol or exporter not spoken here."""
    name = signal.upper()
    exporter = environ.get(f"OTEL_{name}_EXPORTER", "")
    endpoint = environ.get(f"OTEL_EXPORTER_OTLP_{name}_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    exporters = {part.strip() for part in exporter.split(",")} - {"", "none", "prometheus"}
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not (exporters or (endpoint and not exporter)):
        return False
    if exporters - {"otlp"}:
        raise ConfigError(f"OTEL_{name}_EXPORTER={exporter!r}: 'otlp' or 'none'")
    _require_spoken(environ, f"OTEL_EXPORTER_OTLP_{name}_PROTOCOL")
    _require_spoken(environ, "OTEL_EXPORTER_OTLP_PROTOCOL")
    return True


def pushing(environ: Mapping[str, str]) -> "list[MetricReader]":
    """A reader that pushes from a thread of its own, beside the scrapes, if `environ` asks for it; else none.

    OpenTelemetry reads endpoint, interval, headers and temporality from the process's own environment. Raises
    ConfigError for what cannot be followed.
    """
    if not asks_for(environ, "metrics"):
        return []
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    try:
        return [PeriodicExportingMetricReader(OTLPMetricExporter())]
    except ValueError as exc:
        raise ConfigError(f"OTEL_METRIC_EXPORT_INTERVAL: {exc}") from exc


def tracing(environ: Mapping[str, str], *, resource: Mapping[str, str], label: Callable[[str], str] = str) -> Tracing:
    """Spans, if `environ` asks for them; else tracing that is off, and what makes spans is not even imported.

    `resource` says who speaks (metrics.py); `label` gives the type as a span may name it (App.label). Raises
    ConfigError for what cannot be followed. Sampler, endpoint, headers and batch sizes are read by OpenTelemetry.
    """
    if not asks_for(environ, "traces"):
        return Tracing()
    from taskward.telemetry.spans import Spans, exporting_provider

    return Spans(exporting_provider(resource), label=label)


@asynccontextmanager
async def flushing(*shutdowns: Callable[[], None]) -> AsyncIterator[None]:
    """At the end, send what is left: all at once, for CLOSE_SECONDS at most, and even where the caller is cancelled."""
    # Not the usual limit on threads: handlers that are stuck in theirs must not keep these waiting.
    in_thread = partial(trio.to_thread.run_sync, abandon_on_cancel=True, limiter=trio.CapacityLimiter(len(shutdowns)))
    try:
        yield
    finally:
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            async with trio.open_nursery() as nursery:
                for shutdown in shutdowns:
                    nursery.start_soon(in_thread, shutdown)


def _require_spoken(environ: Mapping[str, str], variable: str) -> None:
    if environ.get(variable, "") not in ("", "http/protobuf"):
        raise ConfigError(f"{variable}={environ[variable]!r}: only 'http/protobuf' is spoken here")
