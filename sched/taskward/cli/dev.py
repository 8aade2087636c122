"""`taskward dev`: the whole service on this machine, under one supervisor."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from errno import EADDRINUSE
from functools import partial
from pathlib import Path
from socket import create_server
from typing import TextIO

import trio

from taskward.broker.embedded import embedded_server
from taskward.cli.check import without_password
from taskward.cli.supervisor import Part, supervise
from taskward.config import Config, split_addr
from taskward.errors import ConfigError

# Beyond the graces: what a part needs to give its tasks back, flush its metrics and go.
STOP_MARGIN_SECONDS = 5.0
EXAMPLES = "examples.app:app"
COLOURS = {"api": "36", "worker": "32", "taskward": "1"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a part listens, and which setting says so. `host` is one to connect to."""

    setting: str
    text: str

    @property
    def port(self) -> int:
        """Raises ConfigError where the text is not an address."""
        return split_addr(self.setting, self.text)[1]

    @property
    def host(self) -> str:
        """Loopback for every interface."""
        host = split_addr(self.setting, self.text)[0]
        return "127.0.0.1" if host in ("", "0.0.0.0", "::") else host  # noqa: S104 - compared, not bound

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run and where."""

    app: str
    data: Path
    redis_url: str | None
    api: Address
    api_metrics: Address
    worker_metrics: Address
    grace_seconds: float
    needs_token: bool

    @classmethod
    def of(cls, options: argparse.Namespace, env: Mapping[str, str]) -> "Plan":
        """The options, and the environment where they are silent. Raises ConfigError."""
        config = Config.from_env(env)
        return cls(
            app=options.app,
            data=Path(options.data),
            redis_url=env.get("REDIS_URL") or None,
            api=Address("API_ADDR", options.api_addr or config.api_addr),
            api_metrics=Address("METRICS_ADDR", options.api_metrics or config.metrics_addr or ":2112"),
            worker_metrics=Address("--worker-metrics", options.worker_metrics),
            grace_seconds=(config.shutdown_grace_ms + config.cancel_grace_ms) / 1000,
            needs_token=bool(config.api_tokens_file),
        )

    @property
    def addresses(self) -> tuple[Address, Address, Address]:
        """All that will be listened on."""
        return self.api, self.api_metrics, self.worker_metrics


def run(options: argparse.Namespace, env: Mapping[str, str]) -> int:
    """Until a signal. -> 0. Raises ConfigError for a taken port or folder; ChildEnded, in a group, for a crash."""
    plan = Plan.of(options, env)
    require_free(*plan.addresses)
    with _store(plan) as store:
        trio.run(
            partial(
                supervise,
                store,
                partial(parts_of, plan, env),
                say=printer(sys.stdout),
                on_ready=lambda url: print(banner(plan, url), flush=True),
                stop_seconds=plan.grace_seconds + STOP_MARGIN_SECONDS,
            )
        )
    return 0


def require_free(*addresses: Address) -> None:
    """Raises ConfigError, naming the setting, for an address that cannot be listened on."""
    with ExitStack() as listeners:
        for address in addresses:
            try:
                # All at once, so that two of ours cannot be the same either.
                listeners.enter_context(create_server((address.host, address.port)))
            except OSError as exc:
                what = "taken" if exc.errno == EADDRINUSE else f"not to be had ({exc.strerror})"
                raise ConfigError(
                    f"port {address.port} on {address.host} is {what}: "
                    f"stop what listens there, or choose another, e.g. {_example(address)}"
                ) from None


def parts_of(plan: Plan, env: Mapping[str, str], redis_url: str) -> tuple[Part, ...]:
    """The processes, in the order they are started."""
    taskward = (sys.executable, "-m", "taskward")
    shared = {**env, "REDIS_URL": redis_url, "PYTHONUNBUFFERED": "1"}
    return (
        Part(
            name="worker",
            command=(*taskward, "worker", "--app", plan.app),
            env={**shared, "METRICS_ADDR": plan.worker_metrics.text},
            host=plan.worker_metrics.host,
            port=plan.worker_metrics.port,
        ),
        Part(
            name="api",
            command=(*taskward, "api"),
            env={**shared, "API_ADDR": plan.api.text, "METRICS_ADDR": plan.api_metrics.text},
            host=plan.api.host,
            port=plan.api.port,
        ),
    )


def banner(plan: Plan, redis_url: str) -> str:
    """What a newcomer wants to know first."""
    token = " -H 'Authorization: Bearer TOKEN'" if plan.needs_token else ""
    type = "echo" if plan.app == EXAMPLES else "A_TYPE_OF_YOURS"
    data = "" if plan.redis_url else f"   data in {plan.data}, log in {plan.data / 'server.log'}"
    return f"""
Taskward is up. Ctrl-C stops it.
  API       http://{plan.api}
  console   http://{plan.api}/ (in a browser)
  metrics   http://{plan.api_metrics}/metrics (API), http://{plan.worker_metrics}/metrics (worker)
  store     {without_password(redis_url)}{data}
  handlers  {plan.app}
Try:
  curl http://{plan.api}/tasks{token} -H 'Content-Type: application/json' -d '{{"type": "{type}", "payload": "hello"}}'
"""


def printer(out: TextIO, *, no_colour: bool = "NO_COLOR" in os.environ) -> Callable[[str, str], None]:
    """Prints lines with the name of who wrote them in front, in colour on a terminal."""
    coloured = out.isatty() and not no_colour

    def say(name: str, line: str) -> None:
        head = f"{name:>8} |"
        print(f"\033[{COLOURS.get(name, '0')}m{head}\033[0m" if coloured else head, line, file=out, flush=True)

    return say


@contextmanager
def _store(plan: Plan) -> Iterator[AbstractAsyncContextManager[str]]:
    if plan.redis_url:
        yield nullcontext(plan.redis_url)
        return
    plan.data.mkdir(parents=True, exist_ok=True)
    with (plan.data / "server.log").open("a") as log:
        yield embedded_server(plan.data, log=lambda line: print(line, file=log, flush=True))


def _example(address: Address) -> str:
    return f"{address.setting}{' ' if address.setting.startswith('--') else '='}:{address.port + 1 & 0xFFFF}"
