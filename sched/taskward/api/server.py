"""Serving the app: the socket first, then the front door, then a stop that lets requests finish."""

import logging
import socket
from functools import partial

import trio
from hypercorn.config import Config as Settings
from hypercorn.utils import wrap_app
from quart_trio import QuartTrio

from taskward.api.app import create_app
from taskward.api.auth import bind_host
from taskward.api.front import FrontDoor
from taskward.api.requests import MAX_WAIT_SECONDS
from taskward.api.service import Service, Traces
from taskward.broker.broker import Broker
from taskward.config import Config
from taskward.errors import ConfigError
from taskward.events import Observer

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 5
UNREAD_SECONDS = 60


async def run_api(
    config: Config,
    broker: Broker,
    *,
    observe: Observer,
    stop: trio.Event,
    traces: Traces | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The API until `stop`, with everything behind it. Started with its addresses. Raises ConfigError."""
    listening = listen(*bind_host(config))
    service = Service.of(config, broker, observe=observe, traces=traces)
    app = create_app(service)
    grace = config.shutdown_grace_ms / 1000
    async with trio.open_nursery() as background:
        background.start_soon(service.run)
        background.start_soon(_close_at, stop, service.gateway.closing)
        async with trio.open_nursery() as serving:
            urls = await serving.start(partial(serve_api, app, listening, service=service, stop=stop, grace=grace))
            task_status.started(urls)
        background.cancel_scope.cancel()


async def serve_api(
    app: QuartTrio,
    listening: socket.socket,
    *,
    service: Service,
    stop: trio.Event,
    grace: float,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer requests until `stop`, then those under way for `grace` seconds more. Closes the socket.

    Started when it serves, with its addresses ("http://host:port").
    """
    settings = Settings()
    settings.keep_alive_timeout = KEEP_ALIVE_SECONDS
    settings.keep_alive_max_requests = 100_000
    settings.read_timeout = MAX_WAIT_SECONDS + 30  # it runs also while a client waits for its answer
    settings.include_server_header = False
    settings.errorlog = logging.getLogger("taskward.api.hypercorn")
    door = FrontDoor(wrap_app(app, 0, "asgi"), service, settings)
    async with trio.SocketListener(trio.socket.from_stdlib_socket(listening)) as listener:
        task_status.started([_url(listening)])
        await door.serve(listener, stop=stop, grace=grace)


async def _close_at(stop: trio.Event, closing: trio.Event) -> None:
    await stop.wait()
    closing.set()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; the host '' is every interface. Raises ConfigError for a port that is taken."""
    everywhere = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if everywhere or ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=everywhere)
    except OSError as exc:
        raise ConfigError(f"API_ADDR={host}:{port}: cannot listen there: {exc.strerror}") from exc
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Hypercorn cannot be stopped while it sends; a client that does not read is left to the kernel.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000)
    return listening


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
