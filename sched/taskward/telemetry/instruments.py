"""The one table of instruments: metrics.py builds it, the docs, alerts and dashboard are tested against it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Role = Literal["api", "worker"]

API: frozenset[Role] = frozenset({"api"})
WORKER: frozenset[Role] = frozenset({"worker"})
BOTH: frozenset[Role] = API | WORKER

# .5 must be a bound: "p95 above 500 ms" is then exact, not interpolated.
RUN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
WAIT_BUCKETS = (0.001, 0.0025, 0.005, *RUN_BUCKETS, 60.0, 300.0, 1800.0)
HTTP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
REDIS_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
BYTES_BUCKETS = (64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0)
ATTEMPT_BUCKETS = (1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 25.0)

FAIL_REASONS = ("exception", "timeout", "unknown_type", "invalid_result")
DEAD_REASONS = (*FAIL_REASONS, "discarded", "invalid_payload", "undecodable", "reaped")
RETRY_REASONS = (*FAIL_REASONS, "asked")
REJECT_REASONS = ("unreadable-body", "invalid", "too-large", "conflict", "queue-full", "memory-low", "unavailable")
CANCEL_CAUSES = ("user", "deadline", "shutdown", "lease_lost")
TASK_STATES = ("scheduled", "queued", "running", "cancelling", "retry_wait")
FENCED_OPS = ("settle", "extend", "progress")
ERROR_KINDS = ("unavailable",)
VIOLATIONS = (
    *("missing_spec", "missing_place", "two_places", "running_without_lease", "stale_record"),
    "unknown_priority",
)

PRIORITY = ("priority",)
TYPE_PRIORITY = ("type", "priority")


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric. `known` gives label values that exist before anything happens, so those series start at zero.

    The values of `type` and `priority` are the process's own. `cluster` says that every process exports the same
    reading of the whole queue, to be aggregated with max; everything else is about this process alone.
    """

    kind: Kind
    name: str
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    roles: frozenset[Role] = BOTH
    known: Mapping[str, tuple[str, ...]] | None = None
    cluster: bool = False

    @property
    def series(self) -> tuple[str, ...]:
        """The names as a Prometheus query sees them."""
        if self.kind != "histogram":
            return (self.name,)
        return tuple(f"{self.name}_{suffix}" for suffix in ("bucket", "sum", "count"))


DOCUMENTED: tuple[Instrument, ...] = (
    Instrument(
        "histogram",
        "task_run_seconds",
        "s",
        "From handler start to scope exit, whatever the outcome.",
        ("type",),
        buckets=RUN_BUCKETS,
        roles=WORKER,
    ),
    Instrument(
        "histogram",
        "enqueue_to_start_seconds",
        "s",
        "From the moment a task could first run (a chosen delay does not count) until a worker starts it.",
        PRIORITY,
        buckets=WAIT_BUCKETS,
        roles=WORKER,
    ),
    Instrument("gauge", "queue_depth", "{task}", "Tasks that wait for a free slot.", PRIORITY, cluster=True),
    Instrument(
        "gauge", "retry_set_depth", "{task}", "Failed tasks that wait to be tried again.", PRIORITY, cluster=True
    ),
    Instrument("gauge", "dlq_depth", "{task}", "Tasks given up on, in the DLQ.", PRIORITY, cluster=True),
    Instrument("gauge", "processing_inflight", "{task}", "Tasks leased by all workers.", cluster=True),
    Instrument(
        "counter",
        "tasks_enqueued_total",
        "{task}",
        "New tasks stored, by the API or a schedule; an idempotent replay is none.",
        PRIORITY,
    ),
    Instrument("counter", "tasks_dequeued_total", "{task}", "Attempts started.", PRIORITY, roles=WORKER),
    Instrument(
        "counter", "tasks_succeeded_total", "{task}", "Attempts whose handler returned.", TYPE_PRIORITY, roles=WORKER
    ),
    Instrument(
        "counter",
        "tasks_failed_total",
        "{task}",
        "Attempts that raised, asked for a retry or ran into their timeout.",
        TYPE_PRIORITY,
        roles=WORKER,
    ),
    Instrument(
        "counter",
        "tasks_retried_total",
        "{task}",
        "Attempts after which the task went to the retry set.",
        TYPE_PRIORITY,
        roles=WORKER,
    ),
    Instrument("counter", "tasks_reaped_total", "{task}", "Expired leases taken back.", PRIORITY, roles=WORKER),
)

BEYOND: tuple[Instrument, ...] = (
    Instrument(
        "gauge",
        "queue_oldest_task_age_seconds",
        "s",
        "How long the oldest waiting task has been able to run; 0 while none waits.",
        PRIORITY,
        cluster=True,
    ),
    Instrument(
        "gauge",
        "retry_overdue_seconds",
        "s",
        "How long the most overdue retry has been due; 0 while none waits.",
        PRIORITY,
        cluster=True,
    ),
    Instrument("gauge", "scheduled_depth", "{task}", "Tasks that wait for their time.", PRIORITY, cluster=True),
    Instrument("gauge", "queue_paused", "1", "1 while the priority is paused, else 0.", PRIORITY, cluster=True),
    Instrument("gauge", "workers_live", "{worker}", "Workers with a fresh heartbeat.", cluster=True),
    Instrument(
        "gauge",
        "metrics_sample_timestamp_seconds",
        "s",
        "When the depths were last read (Unix time of the Redis server).",
        cluster=True,
    ),
    Instrument(
        "gauge", "redis_memory_used_ratio", "", "Share of the memory Redis may use that is taken.", cluster=True
    ),
    Instrument("gauge", "metrics_sample_duration_seconds", "s", "How long the last reading of the depths took."),
    Instrument("counter", "metrics_sample_failures_total", "{sample}", "Readings of the depths that got no answer."),
    Instrument("gauge", "worker_slots_busy", "{slot}", "Slots that run a task.", roles=WORKER),
    Instrument("gauge", "worker_slots", "{slot}", "Slots there are.", roles=WORKER),
    Instrument("gauge", "stuck_handlers", "{task}", "Cancelled handlers that have not let go.", roles=WORKER),
    Instrument("gauge", "event_loop_lag_seconds", "s", "Longest turn of the event loop in the last 5 to 10 seconds."),
    Instrument("gauge", "event_loop_busy_ratio", "", "Share of the last 5 to 10 seconds the event loop was at work."),
    Instrument(
        "counter",
        "tasks_dead_total",
        "{task}",
        "Tasks sent to the DLQ.",
        ("type", "priority", "reason"),
        roles=WORKER,
        known={"reason": DEAD_REASONS},
    ),
    Instrument(
        "counter",
        "tasks_cancelled_total",
        "{task}",
        "Attempts stopped before their end, for another cause than a timeout.",
        ("type", "priority", "cause"),
        roles=WORKER,
        known={"cause": CANCEL_CAUSES},
    ),
    Instrument(
        "counter",
        "task_retry_reasons_total",
        "{task}",
        "Why tasks went to the retry set.",
        ("reason",),
        roles=WORKER,
        known={"reason": RETRY_REASONS},
    ),
    Instrument(
        "counter",
        "tasks_released_total",
        "{task}",
        "Tasks given back unharmed; their attempt does not count.",
        PRIORITY,
        roles=WORKER,
    ),
    Instrument("counter", "tasks_expired_total", "{task}", "Tasks dropped at claim, past their expiry.", roles=WORKER),
    Instrument(
        "counter",
        "fenced_writes_total",
        "{write}",
        "Writes refused because the lease was no longer ours.",
        ("op",),
        roles=WORKER,
        known={"op": FENCED_OPS},
    ),
    Instrument("counter", "loop_stalls_total", "{stall}", "Times the watchdog saw the loop stand still.", roles=WORKER),
    Instrument(
        "counter",
        "task_state_seconds_total",
        "s",
        "Where tasks spent their time; a retry's wait is counted when it is decided.",
        ("type", "state"),
        roles=WORKER,
        known={"state": TASK_STATES},
    ),
    Instrument(
        "counter",
        "tasks_deduplicated_total",
        "{task}",
        "Submissions answered with a task that existed already.",
        PRIORITY,
        roles=API,
    ),
    Instrument(
        "counter",
        "tasks_rejected_total",
        "{task}",
        "Submissions turned away.",
        ("reason",),
        roles=API,
        known={"reason": REJECT_REASONS},
    ),
    Instrument(
        "counter",
        "redis_errors_total",
        "{error}",
        "Round trips to Redis that failed.",
        ("op", "kind"),
        known={"kind": ERROR_KINDS},
    ),
    Instrument(
        "histogram",
        "redis_command_seconds",
        "s",
        "Round trips to Redis, failed ones too.",
        ("op",),
        buckets=REDIS_BUCKETS,
    ),
    Instrument(
        "histogram",
        "http_server_request_duration_seconds",
        "s",
        "From request to response, by route template.",
        ("http_request_method", "http_route", "http_response_status_code"),
        buckets=HTTP_BUCKETS,
        roles=API,
    ),
    Instrument(
        "histogram",
        "task_payload_bytes",
        "By",
        "Payloads of new tasks, as JSON; tasks stored together count with their mean.",
        buckets=BYTES_BUCKETS,
        roles=API,
    ),
    Instrument(
        "histogram",
        "task_attempts",
        "{attempt}",
        "Attempts a task had taken when it ended.",
        buckets=ATTEMPT_BUCKETS,
        roles=WORKER,
    ),
    Instrument("gauge", "build_info", "", "Always 1.", ("version", "python")),
    Instrument(
        "gauge",
        "invariant_violations",
        "{violation}",
        "What the auditor found wrong in its last pass over the store.",
        ("kind",),
        roles=WORKER,
        known={"kind": VIOLATIONS},
        cluster=True,
    ),
)

INSTRUMENTS = DOCUMENTED + BEYOND


def for_role(role: Role) -> tuple[Instrument, ...]:
    """The instruments a process of this role exports."""
    return tuple(i for i in INSTRUMENTS if role in i.roles)


def as_markdown() -> str:
    """The table as docs/metrics.md shows it."""
    return "| name | kind | labels | from | about | meaning |\n|---|---|---|---|---|---|\n" + "".join(
        map(_row, INSTRUMENTS)
    )


def _row(i: Instrument) -> str:
    labels = ", ".join(f"`{label}`" for label in i.labels) or "-"
    roles = " and ".join(sorted(i.roles))
    bounds = f" Bounds: {', '.join(f'{b:g}' for b in i.buckets)}." if i.buckets else ""
    name = f"**`{i.name}`**" if i in DOCUMENTED else f"`{i.name}`"
    return f"| {name} | {i.kind} | {labels} | {roles} | {'queue' if i.cluster else 'process'} | {i.help}{bounds} |\n"
