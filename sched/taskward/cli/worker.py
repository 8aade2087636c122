"""The worker process, put together: nesting is the order in which it stops."""

import gc
import math
import os
from functools import partial

import trio

from taskward.app import App, load
from taskward.broker.broker import Broker
from taskward.broker.connection import open_connection
from taskward.broker.lifeline import Lifeline
from taskward.cli.process import Telemetry, bound, new_instance_id, open_telemetry, trusted
from taskward.cli.signals import stop_on_signal
from taskward.client.gateway import Gateway
from taskward.client.local import now_ms
from taskward.config import Config, split_addr
from taskward.errors import BrokerUnavailable
from taskward.events import Lifecycle, Observer, Trouble
from taskward.maintenance.auditor import auditor
from taskward.maintenance.periodic import every, janitor, reaper, sampler
from taskward.maintenance.scheduler import Scheduler
from taskward.policy.priority import Shares
from taskward.submission import Limits
from taskward.telemetry.scrape import serve_scrapes
from taskward.telemetry.standin import standing_in
from taskward.worker.clock import PunctualClock
from taskward.worker.ending import Defaults
from taskward.worker.executor import Executor
from taskward.worker.keeper import Keeper
from taskward.worker.pool import Pool, Span
from taskward.worker.report import Report
from taskward.worker.watchdog import Watchdog

METRICS_ADDR = ":2113"
JANITOR_SECONDS = 1.0
AUDIT_SECONDS = 1.0
SCHEDULER_SECONDS = 1.0
# Who has not reported for 15 seconds counts as gone.
REPORT_SECONDS = 5.0
# A worker that has not reached the store for so long is not ready.
CONTACT_SECONDS = 15.0
EXIT_ABANDONED = 70


def run(config: Config, app_path: str) -> int:
    """Serve until a signal. -> the exit code. Raises ConfigError, BrokerRefused."""
    return trio.run(partial(_run, config, load(app_path)), clock=PunctualClock())


def pool_of(
    config: Config, *, app: App, broker: Broker, worker_id: str, observe: Observer, span: Span | None = None
) -> Pool:
    """The pool of these settings."""
    return Pool(
        app=app,
        broker=broker,
        worker_id=worker_id,
        concurrency=config.worker_concurrency,
        shares=Shares([weight for _, weight in config.priorities], strict=config.priority_mode == "strict"),
        defaults=Defaults.of(config),
        executor=Executor(
            threads=trio.CapacityLimiter(config.worker_concurrency),
            processes=trio.CapacityLimiter(os.cpu_count() or 1),
            max_result_bytes=config.max_payload_bytes,
        ),
        observe=observe,
        span=span,
    )


def keeper_of(config: Config, *, broker: Broker, pool: Pool, observe: Observer) -> Keeper:
    """The keeper of a pool's leases."""
    return Keeper(
        broker=broker,
        held=pool.held,
        lease_seconds=config.lease_ms / 1000,
        cancel_grace=config.cancel_grace_ms / 1000,
        observe=observe,
    )


async def _run(config: Config, app: App) -> int:
    worker_id = new_instance_id()
    metrics_addr = config.metrics_addr or METRICS_ADDR
    async with (
        open_telemetry(
            config, role="worker", instance_id=worker_id, types=sorted(app.handlers), label=app.label
        ) as telemetry,
        open_connection(config.redis_url, name=f"taskward-worker {worker_id}", queue=config.queue) as connection,
    ):
        telemetry.share()
        broker = Broker.of(config, connection, observe=telemetry.observe)
        worker = _Worker(config, app, broker, telemetry, worker_id=worker_id, metrics_addr=metrics_addr)
        return await worker.serve()


class _Worker:
    """The parts of one worker, and the nurseries that own them."""

    def __init__(
        self, config: Config, app: App, broker: Broker, telemetry: Telemetry, *, worker_id: str, metrics_addr: str
    ) -> None:
        self._config = config
        self._broker = broker
        self._telemetry = telemetry
        self._observe = telemetry.observe
        self._worker_id = worker_id
        self._metrics_addr = metrics_addr
        self._heard = -math.inf
        self._pool = pool_of(
            config, app=app, broker=broker, worker_id=worker_id, observe=self._observe, span=telemetry.span
        )
        self._keeper = keeper_of(config, broker=broker, pool=self._pool, observe=self._observe)
        self._watchdog = Watchdog(
            lifeline=Lifeline(config),
            held=self._pool.held,
            lease_seconds=config.lease_ms / 1000,
            limit=config.loop_stall_limit_ms / 1000,
            observe=self._observe,
        )
        self._types = sorted(app.handlers)
        schedules = list(app.schedules.values())
        self._gateway = Gateway(broker, observe=self._observe)
        self._scheduler = Scheduler(
            schedules,
            broker=broker,
            gateway=self._gateway,
            limits=Limits.of(config),
            kept_ms=config.result_ttl_ms,
        )
        self._report = Report(
            worker_id=worker_id,
            pool=self._pool,
            keeper=self._keeper,
            watchdog=self._watchdog,
            metrics_addr=metrics_addr,
            types=self._types,
            schedules=schedules,
            work=telemetry.metrics.work_totals,
            now_ms=now_ms,
        )

    async def serve(self) -> int:
        """Run until a signal; then drain, and leave. -> the exit code."""
        stop = trio.Event()
        drained = False
        async with trio.open_nursery() as background:
            host, port = split_addr("METRICS_ADDR", self._metrics_addr)
            await background.start(stop_on_signal, stop, self._abandon)
            with bound("METRICS_ADDR", self._metrics_addr):
                scraped = await background.start(
                    partial(serve_scrapes, self._telemetry.metrics, host=host, port=port, ready=self._readiness)
                )
            await trusted(self._broker, self._observe, stop=stop)
            self._start_ticks(background)
            with standing_in(scraped) as answer, self._watchdog.watching(meanwhile=answer):
                background.start_soon(self._watchdog.beat)
                async with trio.open_nursery() as keeping:  # leases are renewed until the last scope is gone
                    keeping.start_soon(self._keeper.run)
                    async with trio.open_nursery() as working:
                        working.start_soon(self._pool.run)
                        gc.freeze()  # what the start has made stays: no collection needs to look at it again
                        self._observe(Lifecycle("worker started", self._facts()))
                        await stop.wait()
                        self._observe(Lifecycle("worker draining", {"busy": self._pool.busy}))
                        drained = await self._pool.drain(
                            grace=self._config.shutdown_grace_ms / 1000,
                            cancel_grace=self._config.cancel_grace_ms / 1000,
                        )
                        if not drained:
                            self._abandon()
                    keeping.cancel_scope.cancel()
            await self._say_goodbye()
            background.cancel_scope.cancel()
        self._observe(Lifecycle("worker stopped"))
        return 0

    def _facts(self) -> dict[str, object]:
        config = self._config
        return {
            "worker_id": self._worker_id,
            "queue": config.queue,
            "redis": config.redis_url,
            "slots": config.worker_concurrency,
            "types": self._types,
            "metrics": self._metrics_addr,
        }

    def _start_ticks(self, background: trio.Nursery) -> None:
        sample_seconds = self._config.metrics_sample_ms / 1000
        ticks = [
            (self._config.reaper_interval_ms / 1000, "reaper", reaper(self._broker, self._observe)),
            (JANITOR_SECONDS, "janitor", janitor(self._broker)),
            (sample_seconds, "sampler", sampler(self._broker, self._observe)),
            (AUDIT_SECONDS, "auditor", auditor(self._broker, self._observe)),
            (min(sample_seconds, REPORT_SECONDS), "report", self._publish),
        ]
        if self._scheduler.schedules:
            background.start_soon(self._gateway.run)
            ticks.append((SCHEDULER_SECONDS, "scheduler", self._scheduler.tick))
        for seconds, name, tick in ticks:
            background.start_soon(partial(every, seconds, name, tick, observe=self._observe))

    async def _publish(self) -> None:
        await self._broker.report(self._worker_id, self._report.render())
        self._heard = trio.current_time()

    async def _say_goodbye(self) -> None:
        with trio.move_on_after(1.0):
            try:
                await self._broker.report(self._worker_id, b"")
            except BrokerUnavailable:
                return  # the janitor of another worker removes it

    def _readiness(self) -> tuple[bool, dict[str, object]]:
        # With every slot taken for long, the pool asks for nothing; the report goes out all the same.
        silent = trio.current_time() - max(self._pool.last_contact, self._heard)
        reasons: dict[str, object] = {
            "seconds_since_contact": round(silent, 1) if silent < 1e9 else None,
            "loop_blocked": self._watchdog.loop_blocked,
            "draining": self._pool.draining,
            "stuck_handlers": self._keeper.stuck,
        }
        ready = silent < CONTACT_SECONDS and not self._watchdog.loop_blocked and not self._pool.draining
        return ready, reasons

    def _abandon(self) -> None:
        """A handler that does not stop cannot be waited for: leave; its lease expires and another worker runs it."""
        running = [r.lease.id for r in self._pool.held.values()]
        self._observe(Trouble("worker gives up on its handlers", {"tasks": running[:20], "count": len(running)}))
        os._exit(EXIT_ABANDONED)
