"""Who may do what: bearer tokens with scopes, read from a file of hashes. Nothing is allowed that no route names."""

import hashlib
import hmac
import ipaddress
import secrets
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import trio
from msgspec import Meta
from werkzeug.exceptions import Forbidden, Unauthorized

from taskward.config import Config, split_addr
from taskward.errors import ConfigError
from taskward.events import Lifecycle, Observer, Trouble

LOOK_SECONDS = 5.0

Stamp = tuple[int, int, int]


class Scope(StrEnum):
    """What a route asks for. OPEN asks for nothing."""

    SUBMIT = "submit"
    READ = "read"
    OPERATE = "operate"
    OPEN = "open"


EVERYTHING = frozenset(Scope)


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the tokens file; the token itself is nowhere."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    scopes: frozenset[Scope]
    expires: Annotated[datetime, Meta(tz=True)] | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    tokens: tuple[Token, ...]


def parse_tokens(text: bytes) -> tuple[Token, ...]:
    """Raises ConfigError for a file that is not {"tokens": [{"name", "sha256", "scopes", "expires"?}]}."""
    try:
        tokens = msgspec.json.decode(text, type=_File).tokens
    except ValueError as exc:
        raise ConfigError(f"API_TOKENS_FILE: {exc}") from exc
    names: dict[str, str] = {}
    for token in tokens:
        if Scope.OPEN in token.scopes:
            raise ConfigError(f"API_TOKENS_FILE: {token.name}: open is no scope of a token")
        if token.sha256 in names:
            raise ConfigError(f"API_TOKENS_FILE: {names[token.sha256]} and {token.name} are the same token")
        names[token.sha256] = token.name
    return tokens


def new_token() -> tuple[str, str]:
    """A fresh token, to be shown once, and the hash that goes into the file."""
    token = "tw_" + secrets.token_urlsafe(32)
    return token, hash_of(token)


def hash_of(token: str) -> str:
    """SHA-256 in hex: enough for a token of 256 random bits."""
    return hashlib.sha256(token.encode()).hexdigest()


def bind_host(config: Config) -> tuple[str, int]:
    """Where the API may listen: without tokens only on loopback, unless API_AUTH=off. Raises ConfigError."""
    host, port = split_addr("API_ADDR", config.api_addr)
    if config.api_auth == "off" or config.api_tokens_file:
        return host, port
    if host and not is_loopback(host):
        raise ConfigError(
            f"API_ADDR={config.api_addr}: without API_TOKENS_FILE (or API_AUTH=off) the API listens on loopback only"
        )
    return host or "127.0.0.1", port


def is_loopback(host: str) -> bool:
    """Whether a host name can only mean this machine."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Admits requests, or raises Unauthorized or Forbidden.

    With tokens: by token and scope. Without (loopback only): requests of a browser for another site are refused, by
    where they say they come from and by the name they were addressed to; else any web page could give us orders.
    With `off`: everybody.
    """

    def __init__(self, tokens: tuple[Token, ...] | None, *, off: bool = False, stamp: Stamp | None = None) -> None:
        self._tokens = tokens
        self._off = off
        self._stamp = stamp

    @classmethod
    def of(cls, config: Config) -> "Guard":
        """Raises ConfigError where the tokens file cannot be used."""
        if config.api_auth == "off":
            return cls(None, off=True)
        if not config.api_tokens_file:
            return cls(None)
        path = Path(config.api_tokens_file)
        try:
            stamp = _stamp(path)  # before the reading: what changes after it is read again
            return cls(parse_tokens(path.read_bytes()), stamp=stamp)
        except OSError as exc:
            raise ConfigError(f"API_TOKENS_FILE={path}: {exc.strerror}") from exc

    def admit(
        self, scope: Scope | None, *, authorization: str, host: str, site: str, origin: str, now: datetime
    ) -> frozenset[Scope]:
        """-> what else it may. `scope` None is a request that no route answers; `site` is its Sec-Fetch-Site header."""
        if self._off or scope is Scope.OPEN:
            return EVERYTHING
        if self._tokens is None:
            elsewhere = site not in ("", "none", "same-origin") or (origin and not _is_at(origin, host))
            if elsewhere or not is_loopback(_without_port(host)):
                raise Forbidden("without tokens only this machine's own programs are served")
            return EVERYTHING
        token = self._find(authorization, now)
        if scope is not None and scope not in token.scopes:
            raise Forbidden(f"the token {token.name} lacks the scope {scope}")
        return token.scopes

    def _find(self, authorization: str, now: datetime) -> Token:
        kind, _, presented = authorization.partition(" ")
        if kind.lower() != "bearer" or not presented:
            raise Unauthorized("a bearer token is needed")
        digest = hash_of(presented.strip())
        # All are compared, whether one fits or not: the time tells nothing.
        found = [token for token in self._tokens or () if hmac.compare_digest(token.sha256, digest)]
        if not found or (found[0].expires is not None and found[0].expires <= now):
            raise Unauthorized("the token is unknown or expired")
        return found[0]

    async def watch(self, path: str, observe: Observer) -> None:
        """Read the tokens file again when it has changed; one that cannot be read changes nothing but is told of."""
        while True:
            await trio.sleep(LOOK_SECONDS)
            try:
                tokens = await trio.to_thread.run_sync(self._changed, Path(path))
            except (ConfigError, OSError) as exc:
                observe(Trouble("tokens not reloaded", {"reason": str(exc)}))
            else:
                if tokens is not None:
                    self._tokens = tokens
                    observe(Lifecycle("tokens reloaded", {"tokens": len(tokens)}))

    def _changed(self, path: Path) -> tuple[Token, ...] | None:
        stamp = _stamp(path)
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        return parse_tokens(path.read_bytes())


def _stamp(path: Path) -> Stamp:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _is_at(origin: str, host: str) -> bool:
    """Not all browsers send Sec-Fetch-Site. The origin `null` is nowhere."""
    return origin.partition("://")[2].lower() == host.lower()


def _without_port(host: str) -> str:
    return host if host.endswith("]") else host.rpartition(":")[0] or host
