"""An application with handlers that do real work and ones to play with: `taskward worker --app examples.app:app`."""

import base64
import binascii
import hashlib
import io
import logging
import time
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Literal

import httpx
import msgspec
import trio
from msgspec import Meta
from PIL import Image, UnidentifiedImageError

from taskward import App, Context, Discard, Retry, RetryPolicy

app = App()
logging.getLogger("httpx").setLevel(logging.WARNING)  # else a line a request, with a URL that may hold a secret

KEPT_BYTES = 1024
LONGEST_WAIT_SECONDS = 86_400.0

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
Algorithm = Literal["sha256", "sha512", "sha3_256", "blake2b", "sha1", "md5"]


class DeliveryFailed(Exception):
    """The other side did not answer 2xx; worth another attempt."""


class Sleep(msgspec.Struct, forbid_unknown_fields=True):
    """How long to do nothing."""

    seconds: Annotated[float, Meta(ge=0, le=86_400)]


class Fail(msgspec.Struct, forbid_unknown_fields=True):
    """What to fail with."""

    message: str = "asked to fail"


class Flaky(msgspec.Struct, forbid_unknown_fields=True):
    """How many attempts are to fail before one succeeds."""

    fail_times: Annotated[int, Meta(ge=0)]


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """A webhook. A `body` that is a text is sent as it is, any other value as JSON, null not at all."""

    url: Annotated[str, Meta(pattern="^https?://[^/]")]
    method: Method = "POST"
    headers: dict[str, str] = {}
    body: Any = None


class Checksum(msgspec.Struct, forbid_unknown_fields=True):
    """What to digest: either `text` or `bytes_base64`; each round digests the digest before."""

    text: str | None = None
    bytes_base64: bytes | None = None  # msgspec reads bytes from Base64
    rounds: Annotated[int, Meta(ge=1, le=100_000_000)] = 1
    algorithm: Algorithm = "sha256"

    def __post_init__(self) -> None:
        if (self.text is None) == (self.bytes_base64 is None):
            raise ValueError("either text or bytes_base64")


class Thumbnail(msgspec.Struct, forbid_unknown_fields=True):
    """An image file, and the most its thumbnail may measure in pixels either way."""

    image_base64: str
    max_size: Annotated[int, Meta(ge=1, le=2048)] = 128


@app.task()
async def noop(payload: Any) -> None:
    """Do nothing."""


@app.task()
async def echo(payload: Any) -> Any:
    """Give the payload back."""
    return payload


@app.task()
async def sleep(payload: Sleep) -> None:
    """Wait, and stop at once when asked to."""
    await trio.sleep(payload.seconds)


@app.task()
async def fail(payload: Fail) -> None:
    """Always raise: the task is tried again until its attempts are used up, then it is dead."""
    raise RuntimeError(payload.message)


@app.task(retry=RetryPolicy(base_seconds=0.2, max_seconds=5.0))
async def flaky(payload: Flaky, ctx: Context) -> dict[str, int]:
    """Raise in the first `fail_times` attempts."""
    if ctx.attempt <= payload.fail_times:
        raise RuntimeError(f"attempt {ctx.attempt} of {payload.fail_times} that are to fail")
    return {"attempt": ctx.attempt}


@app.task("http.request", timeout_seconds=30.0)
async def http_request(payload: Request, ctx: Context) -> dict[str, Any]:
    """Deliver a webhook. The task's id goes along as Idempotency-Key: the other side may see a delivery twice.

    Anything but 2xx is tried again, when Retry-After says or else after the usual back-off; a 4xx other than
    408 and 429 is not: the same request would be refused again.
    """
    headers = {"Idempotency-Key": ctx.id, **payload.headers}
    content = payload.body if isinstance(payload.body, str) else None
    json = payload.body if content is None else None
    # No timeout of its own: the attempt's deadline cancels it.
    async with (
        httpx.AsyncClient(timeout=None) as client,
        client.stream(payload.method, payload.url, headers=headers, content=content, json=json) as response,
    ):
        require_success(response.status_code, response.headers.get("Retry-After"), now=time.time())
        return {"status": response.status_code, "body": await _beginning(response)}


def require_success(status: int, retry_after: str | None, *, now: float) -> None:
    """Raise what fits an answer that is not 2xx: Discard, Retry or DeliveryFailed. `now` is Unix time."""
    if 200 <= status < 300:
        return
    if 400 <= status < 500 and status not in (408, 429):
        raise Discard(f"answered {status}")
    seconds = _seconds(retry_after, now=now)
    if seconds is not None:
        raise Retry(after=seconds)
    raise DeliveryFailed(f"answered {status}")


@app.task(process=True)
def checksum(payload: Checksum) -> dict[str, str]:
    """Work a processor: in a process of its own, which a timeout can kill."""
    digest = payload.bytes_base64 if payload.text is None else payload.text.encode()
    assert digest is not None
    for _ in range(payload.rounds):
        digest = hashlib.new(payload.algorithm, digest, usedforsecurity=False).digest()
    return {"algorithm": payload.algorithm, "hex": digest.hex()}


@app.task(process=True, timeout_seconds=30.0)
def thumbnail(payload: Thumbnail) -> dict[str, Any]:
    """An image in, a smaller PNG out. What is no image, or unpacks to a giant one, is not tried again."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(payload.image_base64, validate=True))) as image:
            image.thumbnail((payload.max_size, payload.max_size))
            small = io.BytesIO()
            image.convert("RGBA").save(small, "PNG")
            width, height = image.size
    except (binascii.Error, UnidentifiedImageError, Image.DecompressionBombError, OSError) as exc:
        raise Discard(f"not an image that can be read ({type(exc).__name__})") from exc
    return {"image_base64": base64.b64encode(small.getvalue()).decode(), "width": width, "height": height}


def _seconds(retry_after: str | None, *, now: float) -> float | None:
    """Retry-After, seconds or a date (RFC 9110, 10.2.3), as seconds from now; None where it is neither."""
    if retry_after is None:
        return None
    try:
        seconds = (
            float(retry_after) if retry_after.isdecimal() else parsedate_to_datetime(retry_after).timestamp() - now
        )
    except ValueError:
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)


async def _beginning(response: httpx.Response) -> str:
    kept = b""
    async for chunk in response.aiter_bytes():
        kept += chunk
        if len(kept) >= KEPT_BYTES:
            break
    return kept[:KEPT_BYTES].decode(errors="replace")
