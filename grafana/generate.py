"""Writes grafana/dashboard.json. What is shown stands in rows(), how panels look in panels.py.

    python grafana/generate.py           write it
    python grafana/generate.py --check   exit with 1 where it differs from what would be written

In queries, `@` stands for the matchers of job and instance, `@p` adds priority, `@t` type, `@tp` both. A panel whose
red line or colour is an alert's limit names the alert, and the tests compare the two.
"""

import argparse
import json
import sys
from pathlib import Path

from frame import dashboard
from panels import Panel, Row, bars, lines, place, stat, table

TARGET = Path(__file__).with_name("dashboard.json")
RATE = "$__rate_interval"
# Types that did nothing are not a number; with this they are not in the legend either.
ACTIVE = " >= 0"


def main() -> int:
    """Write the file, or compare."""
    parser = argparse.ArgumentParser(description="Write grafana/dashboard.json.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where it differs")
    check = parser.parse_args().check
    text = render()
    if check:
        return int(TARGET.read_text(encoding="utf-8") != text)
    TARGET.write_text(text, encoding="utf-8")
    return 0


def render() -> str:
    """The file's text."""
    return json.dumps(dashboard(place(rows())), indent=2) + "\n"


def rows() -> list[Row]:
    """The dashboard from top to bottom."""
    return [
        Row("Overview", overview()),
        Row("Queues", queues()),
        Row("Latency", latency()),
        Row("Outcomes", outcomes()),
        Row("Retries and DLQ", retries()),
        Row("Workers and saturation", workers()),
        Row("API", api()),
        Row("Redis", redis()),
        Row("Scraping", scraping()),
    ]


def failure_ratio(by: str, window: str) -> str:
    """Failed attempts over ended attempts, as the alert has it."""
    failed, succeeded = (f"sum{by}(rate(tasks_{what}_total{{@tp}}[{window}]))" for what in ("failed", "succeeded"))
    return f"{failed} / ({failed} + ({succeeded} or {failed} * 0))"


def quantile(q: float, histogram: str, by: str = "", window: str = RATE) -> str:
    """A quantile of a histogram given as `name{matchers}`, over all processes."""
    name, _, matchers = histogram.partition("{")
    return f"histogram_quantile({q}, sum by ({by}le) (rate({name}_bucket{{{matchers}[{window}])))"


def quantiles(histogram: str) -> list[tuple[str, str]]:
    """The three quantiles people look at, with their names."""
    return [(quantile(q, histogram), f"p{q * 100:.0f}") for q in (0.5, 0.95, 0.99)]


# One panel is a few lines here, not a column of arguments.
# fmt: off

def overview() -> list[Panel]:
    """What an operator looks at first; a red number is a number an alert fires at."""
    dead = "max by (priority) (dlq_depth{@p} - min_over_time(dlq_depth{@p}[15m]))"
    slots = "sum(avg_over_time(worker_slots_busy{@}[1m])) / sum(avg_over_time(worker_slots{@}[1m]))"
    firing = 'ALERTS{alertstate="firing", service="taskward"}'
    since = f'(time() - ALERTS_FOR_STATE{{service="taskward"}} and ignoring (alertstate) {firing})'
    return [
        stat("Deepest queue", "Tasks that wait in the fullest queue.", "short", "max(queue_depth{@p})",
             amber=500, red=1000, alert="TaskwardQueueDepthHigh"),
        stat("Oldest waiting task", "How long the task that has waited longest could have run.", "s",
             "max(queue_oldest_task_age_seconds{@p}) or 0 * max(queue_depth{@p})",
             amber=60, red=300, alert="TaskwardOldestTaskWaits"),
        stat("Failure rate (5m)", "Failed attempts over ended attempts, of the last 5 minutes.", "percentunit",
             failure_ratio("", "5m"), amber=0.05, red=0.1, alert="TaskwardFailureRateHigh"),
        stat("p95 run time (5m)", "95% of the handlers of the last 5 minutes ran no longer.", "s",
             quantile(0.95, "task_run_seconds{@t}", window="5m"), amber=0.25, red=0.5, alert="TaskwardTasksSlow"),
        stat("Retries (5m)", "Attempts put off to be tried again in the last 5 minutes.", "short",
             "sum(increase(tasks_retried_total{@tp}[5m]))", amber=250, red=500, alert="TaskwardRetrySurge"),
        stat("New dead letters (15m)", "Tasks given up on in the last 15 minutes.", "short",
             f"sum({dead})", red=1, alert="TaskwardDeadLettersGrow"),
        stat("Slots taken", "Share of all worker slots that run a task, mean of a minute (1m).", "percentunit",
             slots, amber=0.75, red=0.9, alert="TaskwardWorkersSaturated"),
        stat("Running", "Tasks leased by all workers.", "short", "max(processing_inflight{@})"),
        stat("Throughput", "Attempts ended each second.", "ops",
             f"sum(rate(tasks_succeeded_total{{@tp}}[{RATE}])) + sum(rate(tasks_failed_total{{@tp}}[{RATE}]))"),
        stat("Workers", "Workers with a fresh heartbeat.", "short", "max(workers_live{@})", low=1),
        stat("Violated invariants", "Tasks whose places in Redis contradict each other.", "short",
             "sum(max by (kind) (invariant_violations{@}))", red=1, alert="TaskwardInvariantViolated"),
        stat("Firing alerts", "See the list below.", "short", f"count({firing}) or vector(0)", red=1),
        table("Firing alerts, longest first", "None where there is no data. A name leads to its runbook.",
              [f"max by (severity, alertname, priority, job, instance, kind) {since}"],
              columns={"severity": "Severity", "alertname": "Alert", "priority": "Priority", "kind": "Kind",
                       "job": "Job", "instance": "Instance", "Value": "For"},
              units={"For": "s"}, sort="For", runbooks="Alert", width=14, height=6),
        bars("Where the tasks are", "Tasks in each place of the queue now, all priorities.", "short",
             [("sum(max by (priority) (scheduled_depth{@p}))", "scheduled"),
              ("sum(max by (priority) (queue_depth{@p}))", "queued"),
              ("max(processing_inflight{@})", "running"),
              ("sum(max by (priority) (retry_set_depth{@p}))", "retrying"),
              ("sum(max by (priority) (dlq_depth{@p}))", "dead")], width=10, height=6),
    ]


def queues() -> list[Panel]:
    """What waits."""
    return [
        lines("Queue depth", "Tasks that wait for a slot. Every process exports the whole queue, hence the maximum.",
              "short", [("max by (priority) (queue_depth{@p})", "{{priority}}")],
              limit=1000, alert="TaskwardQueueDepthHigh", width=12),
        lines("In and out", "New tasks and started attempts each second; retries start again without coming in again.",
              "ops", [(f"sum(rate(tasks_enqueued_total{{@p}}[{RATE}]))", "enqueued"),
                      (f"sum(rate(tasks_dequeued_total{{@p}}[{RATE}]))", "dequeued")], width=12),
        lines("Oldest waiting task", "How long the oldest task could have run; nothing while none waits.", "s",
              [("max by (priority) (queue_oldest_task_age_seconds{@p})", "{{priority}}")],
              limit=300, alert="TaskwardOldestTaskWaits"),
        lines("Backlog in seconds of work", "How long a new task waits: depth over the rate of starts (5m).", "s",
              [("sum(max by (priority) (queue_depth{@p})) / sum(rate(tasks_dequeued_total{@p}[5m]))", "backlog")]),
        lines("Scheduled", "Tasks that wait for their time.", "short",
              [("max by (priority) (scheduled_depth{@p})", "{{priority}}")]),
    ]


def latency() -> list[Panel]:
    """How long things take."""
    return [
        lines("Run time", "Handler start to scope exit, whatever the outcome. Points are exemplars, with traces.", "s",
              quantiles("task_run_seconds{@t}"), limit=0.5, alert="TaskwardTasksSlow", exemplars=True),
        lines("p95 run time by type", "Which handler is slow.", "s",
              [(quantile(0.95, "task_run_seconds{@t}", "type, ") + ACTIVE, "{{type}}")]),
        bars("Run times (5m)", "Attempts of the last 5 minutes by how long they ran, up to so many seconds.", "short",
             [("round(sum by (le) (increase(task_run_seconds_bucket{@t}[5m])))", "{{le}}")], heatmap=True),
        lines("Wait before start", "From the moment a task could first run until it did, all priorities.", "s",
              quantiles("enqueue_to_start_seconds{@p}"), exemplars=True),
        lines("p95 wait by priority", "Whether high really is served first.", "s",
              [(quantile(0.95, "enqueue_to_start_seconds{@p}", "priority, "), "{{priority}}")]),
        lines("Where time goes", "Seconds tasks spent in each state each second: how many are in it, on average.",
              "short", [(f"sum by (state) (rate(task_state_seconds_total{{@t}}[{RATE}]))", "{{state}}")], stacked=True),
    ]


def outcomes() -> list[Panel]:
    """How attempts and tasks end."""
    per_type = "sum by (type) (rate(tasks_{}_total{{@tp}}[5m]))"
    return [
        lines("Attempts", "Attempts ended each second.", "ops",
              [(f"sum(rate(tasks_{end}_total{{@tp}}[{RATE}]))", end) for end in ("succeeded", "failed")], stacked=True),
        lines("Ends other than success", "Tasks each second that ended without a result.", "ops",
              [(f"sum(rate(tasks_dead_total{{@tp}}[{RATE}]))", "dead"),
               (f"sum(rate(tasks_cancelled_total{{@tp}}[{RATE}]))", "cancelled"),
               (f"sum(rate(tasks_expired_total{{@}}[{RATE}]))", "expired")]),
        lines("Failure rate by type (5m)", "Failed over ended attempts, of the last 5 minutes.", "percentunit",
              [(failure_ratio(" by (type) ", "5m") + ACTIVE, "{{type}}")], limit=0.1, alert="TaskwardFailureRateHigh"),
        table("Types (5m)", "Each type of task, over the last 5 minutes.",
              [f"{per_type.format('succeeded')} + {per_type.format('failed')}",
               failure_ratio(" by (type) ", "5m"),
               quantile(0.5, "task_run_seconds{@t}", "type, ", "5m"),
               quantile(0.95, "task_run_seconds{@t}", "type, ", "5m"),
               'sum by (type) (rate(task_state_seconds_total{@t, state="running"}[5m]))',
               "round(sum by (type) (increase(tasks_retried_total{@tp}[5m])))",
               "round(sum by (type) (increase(tasks_dead_total{@tp}[5m])))"],
              columns={"type": "Type", "Value #A": "Attempts", "Value #B": "Failure rate", "Value #C": "p50 run time",
                       "Value #D": "p95 run time", "Value #E": "Slots held", "Value #F": "Retries", "Value #G": "Dead"},
              units={"Attempts": "ops", "Failure rate": "percentunit", "p50 run time": "s", "p95 run time": "s",
                     "Slots held": "short", "Retries": "short", "Dead": "short"},
              limits={"Failure rate": 0.1, "p95 run time": 0.5}, sort="Attempts", width=24, height=11),
    ]


def retries() -> list[Panel]:
    """What did not work the first time."""
    return [
        lines("Retry set", "Failed tasks that wait to be tried again.", "short",
              [("max by (priority) (retry_set_depth{@p})", "{{priority}}")]),
        lines("Retries by reason (5m)", "Attempts put off in 5 minutes. asked: the handler raised Retry.", "short",
              [("sum by (reason) (increase(task_retry_reasons_total{@}[5m]))", "{{reason}}")],
              stacked=True, limit=500, alert="TaskwardRetrySurge"),
        lines("Overdue retries", "How long the most overdue retry has been due; nothing while none waits.", "s",
              [("max by (priority) (retry_overdue_seconds{@p})", "{{priority}}")]),
        lines("Paused", "1 while a priority is paused: its tasks wait until somebody resumes it.", "short",
              [("max by (priority) (queue_paused{@p})", "{{priority}}")]),
        lines("DLQ", "Tasks given up on.", "short", [("max by (priority) (dlq_depth{@p})", "{{priority}}")]),
        lines("Dead by reason (15m)", "Tasks sent to the DLQ in 15 minutes, by type and reason.", "short",
              [("sum by (type, reason) (increase(tasks_dead_total{@tp}[15m])) > 0", "{{type}}: {{reason}}")]),
        bars("Attempts a task took (5m)", "Tasks that ended in the last 5 minutes, by attempts taken, up to so many.",
             "short", [("round(sum by (le) (increase(task_attempts_bucket{@}[5m])))", "{{le}}")], heatmap=True),
    ]


def workers() -> list[Panel]:
    """What the workers have left, and what took their leases."""
    return [
        lines("Slots", "Slots that run a task, and all there are.", "short",
              [("sum(worker_slots_busy{@})", "busy"), ("sum(worker_slots{@})", "total")]),
        lines("Slots taken by worker", "Share of each worker's slots that run a task.", "percentunit",
              [("sum by (instance) (worker_slots_busy{@}) / sum by (instance) (worker_slots{@})",
                "{{instance}}")], limit=0.9, alert="TaskwardWorkersSaturated"),
        lines("Leases lost (5m)", "Leases taken back, writes refused since, tasks given back, stalled loops.", "short",
              [("sum(increase(tasks_reaped_total{@p}[5m]))", "reaped"),
               ("sum(increase(fenced_writes_total{@}[5m]))", "refused writes"),
               ("sum(increase(tasks_released_total{@p}[5m]))", "released"),
               ("sum(increase(loop_stalls_total{@}[5m]))", "loop stalls")]),
        lines("Event loop busy", "Share of the time each process's loop was at work: 100% is the limit.", "percentunit",
              [("event_loop_busy_ratio{@}", "{{instance}}")]),
        lines("Event loop lag", "Longest turn of each process's loop: how long everything else had to wait.", "s",
              [("event_loop_lag_seconds{@}", "{{instance}}")]),
        lines("Stuck handlers", "Handlers that were cancelled and have not let go of their slot.", "short",
              [("sum by (instance) (stuck_handlers{@})", "{{instance}}")], limit=1, alert="TaskwardHandlersStuck"),
        lines("CPU", "Cores each process uses.", "short",
              [(f"rate(process_cpu_seconds_total{{@}}[{RATE}])", "{{instance}}")]),
        lines("Memory", "Resident memory of each process.", "bytes",
              [("process_resident_memory_bytes{@}", "{{instance}}")]),
        lines("Open files", "Open descriptors of each process, sockets too.", "short",
              [("process_open_fds{@}", "{{instance}}")]),
    ]


def api() -> list[Panel]:
    """What clients see."""
    requests = "http_server_request_duration_seconds{@}"
    count = f"rate(http_server_request_duration_seconds_count{{@}}[{RATE}])"
    route = "http_request_method, http_route"
    return [
        lines("Requests", "Requests answered each second, by route.", "reqps",
              [(f"sum by ({route}) ({count})", "{{http_request_method}} {{http_route}}")]),
        lines("p95 response time", "From request to response, by route.", "s",
              [(quantile(0.95, requests, f"{route}, "), "{{http_request_method}} {{http_route}}")]),
        lines("Status", "Responses each second by status.", "reqps",
              [(f"sum by (http_response_status_code) ({count})", "{{http_response_status_code}}")], stacked=True),
        lines("Refused submissions", "Tasks turned away each second, by reason.", "ops",
              [(f"sum by (reason) (rate(tasks_rejected_total{{@}}[{RATE}]))", "{{reason}}")]),
        lines("Replayed submissions", "Submissions answered with a task that existed already, each second.", "ops",
              [(f"sum by (priority) (rate(tasks_deduplicated_total{{@p}}[{RATE}]))", "{{priority}}")]),
        lines("Payloads", "Size of the payloads of new tasks, as JSON.", "bytes", quantiles("task_payload_bytes{@}")),
    ]


def redis() -> list[Panel]:
    """The way to Redis."""
    return [
        lines("p95 round trip", "From a call to its answer, by operation.", "s",
              [(quantile(0.95, "redis_command_seconds{@}", "op, "), "{{op}}")]),
        lines("Round trips", "Calls each second, by operation; each carries a batch.", "ops",
              [(f"sum by (op) (rate(redis_command_seconds_count{{@}}[{RATE}]))", "{{op}}")]),
        lines("Redis errors", "Calls each second that failed.", "ops",
              [(f"sum by (job, kind) (rate(redis_errors_total{{@}}[{RATE}]))", "{{job}}: {{kind}}")]),
        lines("Redis memory", "Share of the memory Redis may use that is taken.", "percentunit",
              [("max(redis_memory_used_ratio{@})", "used")]),
    ]


def scraping() -> list[Panel]:
    """Whether what is shown above is true."""
    by = "max by (job, instance)"
    return [
        table("Processes", "Every target of Prometheus.",
              [f"{by} (up{{@}})", "max by (job, instance, version) (build_info{@})",
               f"{by} (time() - process_start_time_seconds{{@}})", f"{by} (scrape_samples_scraped{{@}})"],
              columns={"job": "Job", "instance": "Instance", "Value #A": "State", "version": "Version",
                       "Value #C": "Up for", "Value #D": "Samples"},
              units={"Up for": "s", "Samples": "short"}, words={"State": {"1": ("up", "green"), "0": ("down", "red")}},
              sort="Job", width=12, height=7),
        lines("Scrape duration", "How long a scrape takes; at 2 s it fails.", "s",
              [("scrape_duration_seconds{@}", "{{instance}}")], limit=2, width=6),
        lines("Age of the readings", "How long ago each process read the depths shown above.", "s",
              [("time() - max by (job, instance) (metrics_sample_timestamp_seconds{@})", "{{instance}}")],
              limit=30, alert="TaskwardSamplerStale", width=6),
    ]
# fmt: on


if __name__ == "__main__":
    sys.exit(main())
