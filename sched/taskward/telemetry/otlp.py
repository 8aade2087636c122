"""Whether the standard OTEL_* variables ask for OTLP, and for what."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Literal

import trio

from taskward.errors import ConfigError
from taskward.telemetry.metrics import Metrics

# Metrics and traces one after the other: a dead collector delays the end by less than 1.5 s.
CLOSE_SECONDS = 0.7

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


@asynccontextmanager
async def pushing(metrics: Metrics, environ: Mapping[str, str]) -> AsyncIterator[None]:
    """Push the metrics while this is entered, and a last time at its end, if `environ` asks for it.

    Raises ConfigError for OTEL_* settings that cannot be followed. OpenTelemetry's exporter is imported here only.
    """
    if not asks_for(environ, "metrics"):
        yield
        return
    from taskward.telemetry.push import interval_seconds, push_metrics

    seconds = interval_seconds(environ)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(push_metrics, metrics, seconds=seconds))
        yield
        nursery.cancel_scope.cancel()


def _require_spoken(environ: Mapping[str, str], variable: str) -> None:
    if environ.get(variable, "") not in ("", "http/protobuf"):
        raise ConfigError(f"{variable}={environ[variable]!r}: only 'http/protobuf' is spoken here")
