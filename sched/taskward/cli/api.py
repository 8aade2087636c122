"""The API process, put together: nesting is the order in which it stops."""

import gc
from functools import partial

import trio

from taskward.api.server import run_api
from taskward.api.service import METRICS_ADDR
from taskward.broker.broker import Broker
from taskward.broker.connection import open_connection
from taskward.cli.process import bound, new_instance_id, open_telemetry, trusted
from taskward.cli.signals import stop_on_signal
from taskward.config import Config, split_addr
from taskward.events import Lifecycle
from taskward.telemetry.scrape import serve_scrapes


def run(config: Config) -> int:
    """Serve until a signal. -> the exit code. Raises ConfigError, BrokerRefused."""
    return trio.run(partial(_run, config))


async def _run(config: Config) -> int:
    instance_id = new_instance_id()
    metrics_addr = config.metrics_addr or METRICS_ADDR
    stop = trio.Event()
    async with (
        open_telemetry(config, role="api", instance_id=instance_id) as telemetry,
        open_connection(config.redis_url, name=f"taskward-api {instance_id}", queue=config.queue) as connection,
        trio.open_nursery() as background,
    ):
        broker = Broker.of(config, connection, observe=telemetry.observe)
        await background.start(stop_on_signal, stop, background.cancel_scope.cancel)
        host, port = split_addr("METRICS_ADDR", metrics_addr)
        with bound("METRICS_ADDR", metrics_addr):
            await background.start(
                partial(serve_scrapes, telemetry.metrics, host=host, port=port, ready=lambda: (True, {}))
            )
        await trusted(broker, telemetry.observe, stop=stop)
        gc.freeze()  # what the start has made stays: no collection needs to look at it again
        async with trio.open_nursery() as serving:
            addresses = await serving.start(
                partial(run_api, config, broker, observe=telemetry.observe, stop=stop, traces=telemetry.traces)
            )
            telemetry.observe(
                Lifecycle(
                    "api started",
                    {"at": addresses, "queue": config.queue, "redis": config.redis_url, "metrics": metrics_addr},
                )
            )
        background.cancel_scope.cancel()
    telemetry.observe(Lifecycle("api stopped"))
    return 0
