"""The fields of a submission, named as in the HTTP API, as the JSON that every way in parses."""

import json
from datetime import datetime
from typing import Any, TypedDict

from taskward.errors import InvalidTask


class Retrying(TypedDict, total=False):
    """Back-off in seconds, and the share of it that is random."""

    base_seconds: float
    max_seconds: float
    multiplier: float
    jitter: float


class Options(TypedDict, total=False):
    """What a submission may say beside its type and payload. Instants: datetime with a zone, or RFC 3339 text."""

    priority: str
    run_at: datetime | str
    delay_seconds: float
    expires_at: datetime | str
    deadline: datetime | str
    timeout_seconds: float
    max_attempts: int
    retry: Retrying
    idempotency_key: str
    tags: list[str]
    headers: dict[str, str]
    id: str


class Item(Options, total=False):
    """One task of a batch: `type`, `payload`, and the options."""

    type: str
    payload: Any


def encode(value: Any) -> bytes:
    """As JSON. Raises InvalidTask for what has no exact JSON form: NaN, bytes, objects."""
    try:
        return _ENCODER.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidTask(f"not JSON: {exc}") from exc


def _instant(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")


_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_instant)
