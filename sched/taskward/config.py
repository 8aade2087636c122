"""Config: every setting, read once from the environment at start-up; modules get the values they need."""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Self
from urllib.parse import urlsplit

from taskward.errors import ConfigError

NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster")


def _setting(env: str, default: Any, text: str, *, low: float | None = None, high: float | None = None) -> Any:
    return field(default=default, metadata={"env": env, "text": text, "low": low, "high": high})


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """All settings. Each field's metadata is its row in docs/configuration.md, which a test holds to it."""

    redis_url: str = _setting("REDIS_URL", "redis://127.0.0.1:6379/0", "where tasks are held")
    queue: str = _setting("QUEUE", "default", "name of the queue; every key is under its hash tag")
    api_addr: str = _setting("API_ADDR", ":8080", "where the API listens; without tokens, loopback only")
    api_auth: str = _setting("API_AUTH", "on", "`off`: no tokens are asked for, on any address")
    api_tokens_file: str = _setting("API_TOKENS_FILE", "", "JSON file of hashed bearer tokens and their scopes")
    metrics_addr: str = _setting("METRICS_ADDR", "", "Prometheus scrape address (`:2112` API, `:2113` worker)")
    metrics_sample_ms: int = _setting("METRICS_SAMPLE_MS", 2000, "gauge sampling interval", low=50, high=600_000)
    priorities: tuple[tuple[str, int], ...] = _setting(
        "PRIORITIES",
        (("high", 6), ("default", 3), ("low", 1)),
        "names and weights, highest first; the same for all processes of a queue",
    )
    priority_mode: str = _setting("PRIORITY_MODE", "weighted", "`weighted` shares, or `strict`: highest first")
    worker_concurrency: int = _setting("WORKER_CONCURRENCY", 100, "tasks one worker runs at once", low=1, high=10_000)
    lease_ms: int = _setting("LEASE_MS", 30_000, "how long a task stays a worker's without renewal", low=500)
    reaper_interval_ms: int = _setting("REAPER_INTERVAL_MS", 1000, "how often expired leases are looked for", low=50)
    max_reaps: int = _setting("MAX_REAPS", 3, "leases a task may lose before it goes to the DLQ", low=1, high=1000)
    max_attempts: int = _setting("MAX_ATTEMPTS", 5, "attempts of a task that names no limit", low=1, high=1000)
    retry_base_ms: int = _setting("RETRY_BASE_MS", 1000, "back-off after the first failure", low=0, high=86_400_000)
    retry_max_ms: int = _setting("RETRY_MAX_MS", 600_000, "longest back-off", low=0, high=604_800_000)
    task_timeout_ms: int = _setting("TASK_TIMEOUT_MS", 300_000, "one attempt of a task that names no timeout", low=1)
    shutdown_grace_ms: int = _setting("SHUTDOWN_GRACE_MS", 10_000, "how long running tasks may finish at a stop", low=0)
    cancel_grace_ms: int = _setting(
        "CANCEL_GRACE_MS", 5000, "how long a cancelled handler may take before it is reported as stuck", low=0
    )
    loop_stall_limit_ms: int = _setting(
        "LOOP_STALL_LIMIT_MS", 300_000, "how long a blocked loop's leases are kept by the watchdog", low=0
    )
    result_ttl_ms: int = _setting("RESULT_TTL_MS", 3_600_000, "how long a finished task and its result are kept", low=0)
    dlq_ttl_ms: int = _setting("DLQ_TTL_MS", 2_592_000_000, "how long a dead task is kept (30 days)", low=1000)
    idempotency_ttl_ms: int = _setting(
        "IDEMPOTENCY_TTL_MS", 86_400_000, "how long an idempotency key is kept", low=1000
    )
    max_payload_bytes: int = _setting("MAX_PAYLOAD_BYTES", 262_144, "longest payload or result, as JSON", low=2)
    max_body_bytes: int = _setting("MAX_BODY_BYTES", 8_388_608, "longest request body that is not a stream", low=1024)
    max_queue_depth: int = _setting(
        "MAX_QUEUE_DEPTH",
        0,
        "tasks that may wait before submissions get 429, the lowest priority first; 0: no limit",
        low=0,
    )
    max_memory_percent: int = _setting(
        "MAX_MEMORY_PERCENT",
        90,
        "share of Redis' memory in use from which submissions get 503, the lowest priority first; 0: no guard",
        low=0,
        high=100,
    )
    wait_replicas: int = _setting(
        "WAIT_REPLICAS", 0, "replicas that must have a task before it is accepted", low=0, high=16
    )
    log_level: str = _setting("LOG_LEVEL", "info", "`debug`, `info`, `warning` or `error`")
    log_format: str = _setting("LOG_FORMAT", "text", "`text` or `json`")

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Raises ConfigError, naming the variable, for a bad value or a name that is nearly a setting's."""
        known = {f.metadata["env"]: f for f in fields(cls)}
        _refuse_misspelt(env, known)
        return cls(**{f.name: _parse(name, f, env[name]) for name, f in known.items() if env.get(name, "") != ""})

    def __post_init__(self) -> None:
        for f in fields(self):
            _check_bounds(f, getattr(self, f.name))
        _check_redis_url(self.redis_url)
        _one_of("API_AUTH", self.api_auth, ("on", "off"))
        _one_of("PRIORITY_MODE", self.priority_mode, ("weighted", "strict"))
        _one_of("LOG_LEVEL", self.log_level, ("debug", "info", "warning", "error"))
        _one_of("LOG_FORMAT", self.log_format, ("text", "json"))
        if not NAME.fullmatch(self.queue):
            raise ConfigError(f"QUEUE={self.queue!r}: a name like 'default' (a-z, 0-9, _ and -, 32 at most)")

    @property
    def priority_names(self) -> tuple[str, ...]:
        """Highest first."""
        return tuple(name for name, _ in self.priorities)


# Near misses of setting names that other software owns.
_NOT_OURS = frozenset({"QUEUES", "LOG_LEVELS"})


def _refuse_misspelt(env: Mapping[str, str], known: Mapping[str, Field[Any]]) -> None:
    for name in env:
        if name in known or name in _NOT_OURS or len(name) < 6:
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.88)
        if near:
            raise ConfigError(f"{name} is not a setting; did you mean {near[0]}?")


def _parse(name: str, f: Field[Any], text: str) -> Any:
    parse: Callable[[str, str], Any] = _parse_priorities if f.name == "priorities" else _PARSERS[type(f.default)]
    assert f.default is not MISSING
    return parse(name, text)


def _parse_int(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{name}={text!r}: a whole number is needed") from None


def _parse_priorities(name: str, text: str) -> tuple[tuple[str, int], ...]:
    pairs = []
    for part in text.split(","):
        label, _, weight = part.strip().partition(":")
        if not NAME.fullmatch(label) or not (weight or "1").isdecimal() or not 1 <= int(weight or "1") <= 1000:
            raise ConfigError(f"{name}={text!r}: write 'high:6,default:3,low:1' (weights 1 to 1000)")
        pairs.append((label, int(weight or "1")))
    if len({label for label, _ in pairs}) != len(pairs) or len(pairs) > 16:
        raise ConfigError(f"{name}={text!r}: names must differ, and be at most 16")
    return tuple(pairs)


_PARSERS: dict[type, Callable[[str, str], Any]] = {str: lambda _name, text: text, int: _parse_int}


def _check_bounds(f: Field[Any], value: Any) -> None:
    low, high = f.metadata["low"], f.metadata["high"]
    if (low is not None and value < low) or (high is not None and value > high):
        limits = f"at least {low}" if high is None else f"{low} to {high}"
        raise ConfigError(f"{f.metadata['env']}={value}: must be {limits}")


def _check_redis_url(url: str) -> None:
    """Says nothing of the URL: it may hold a password."""
    if not url.startswith(tuple(f"{scheme}://" for scheme in REDIS_SCHEMES)):
        *others, last = (f"{scheme}://" for scheme in REDIS_SCHEMES)
        raise ConfigError(f"REDIS_URL: it must begin with {', '.join(others)} or {last}")
    try:
        for node in urlsplit(url).netloc.rpartition("@")[2].split(","):
            at = urlsplit(f"//{node}")
            _ = (at.hostname or "").encode("idna"), at.port
    except ValueError:
        raise ConfigError(
            "REDIS_URL: its host or port cannot be read (in a password, write [ / ? # @ as %XX)"
        ) from None


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name}={value!r}: must be {' or '.join(allowed)}")


def split_addr(name: str, addr: str) -> tuple[str, int]:
    """'host:port' or ':port' -> (host, port); the host is '' for every interface. Raises ConfigError."""
    host, _, port = addr.rpartition(":")
    host = host.strip("[]")
    if not port.isdecimal() or len(port) > 5 or int(port) > 65535 or not _is_host(host):
        raise ConfigError(f"{name}={addr!r}: write 'host:port' or ':port'")
    return host, int(port)


def _is_host(name: str) -> bool:
    """Not one with a label that is empty or too long: for that the resolver raises what is no OSError."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True
