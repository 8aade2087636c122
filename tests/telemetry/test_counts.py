"""Each event is counted in the right place, once, and the books balance."""

import json
from itertools import accumulate
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider

from taskward.events import (
    AdmissionChanged,
    Audited,
    BrokerCalled,
    Event,
    HandlerStuck,
    HttpAnswered,
    LeaseWasLost,
    Lifecycle,
    LoopStalled,
    OutageBegan,
    OutageEnded,
    SampleFailed,
    SubmissionRefused,
    TaskReaped,
    TasksExpired,
    TasksSubmitted,
    Trouble,
)
from taskward.policy.retry import Bury, Cancel, Complete, Failed, Release, RetryAsked, RetryIn, Stopped, Succeeded
from taskward.task import CancelCause
from taskward.telemetry.counts import Counts
from taskward.telemetry.instruments import INSTRUMENTS, RUN_BUCKETS, TASK_STATES

from .given import ERROR, FAILED, PRIORITIES, TYPES, buckets, lease, metrics, settled, started, value

KEY = ("echo", "default")
RETRY = RetryIn(2.0, "exception", ERROR)

CASES = [
    (
        started(),
        {
            "tasks_dequeued_total": {("default",): 1},
            "task_state_seconds_total": {("echo", "queued"): 0.2},
        },
    ),
    *(
        (
            started(lease(**due)),
            {
                "tasks_dequeued_total": {("default",): 1},
                "task_state_seconds_total": {("echo", "scheduled"): seconds, ("echo", "queued"): 0.2},
            },
        )
        for due, seconds in (
            ({"delay_ms": 400}, 0.4),
            ({"run_at_ms": 1000}, 0.4),
            ({"delay_ms": 100}, 0.1),  # and queued again later: it was redriven
            ({"delay_ms": 60_000}, 0.4),  # it did not wait for its time: run-now
        )
    ),
    (
        settled(),
        {"tasks_succeeded_total": {KEY: 1}, "task_state_seconds_total": {("echo", "running"): 0.3}},
    ),
    (
        settled(FAILED, RETRY),
        {
            "tasks_failed_total": {KEY: 1},
            "tasks_retried_total": {KEY: 1},
            "task_retry_reasons_total": {("exception",): 1},
            "task_state_seconds_total": {("echo", "running"): 0.3, ("echo", "retry_wait"): 2.0},
        },
    ),
    (
        settled(RetryAsked(None, ERROR), RetryIn(1.0, "asked", ERROR)),
        {
            "tasks_failed_total": {KEY: 1},
            "tasks_retried_total": {KEY: 1},
            "task_retry_reasons_total": {("asked",): 1},
            "task_state_seconds_total": {("echo", "running"): 0.3, ("echo", "retry_wait"): 1.0},
        },
    ),
    (
        settled(Failed(ERROR, "discarded", retryable=False), Bury("discarded", ERROR)),
        {
            "tasks_failed_total": {KEY: 1},
            "tasks_dead_total": {(*KEY, "discarded"): 1},
            "task_state_seconds_total": {("echo", "running"): 0.3},
        },
    ),
    (
        settled(Stopped(CancelCause.TIMEOUT), Bury("timeout", ERROR)),
        {
            "tasks_failed_total": {KEY: 1},
            "tasks_dead_total": {(*KEY, "timeout"): 1},
            "task_state_seconds_total": {("echo", "running"): 0.3},
        },
    ),
    (
        settled(Stopped(CancelCause.USER), Cancel(CancelCause.USER)),
        {"tasks_cancelled_total": {(*KEY, "user"): 1}, "task_state_seconds_total": {("echo", "running"): 0.3}},
    ),
    (
        settled(Stopped(CancelCause.SHUTDOWN), Release(CancelCause.SHUTDOWN)),
        {
            "tasks_cancelled_total": {(*KEY, "shutdown"): 1},
            "tasks_released_total": {("default",): 1},
            "task_state_seconds_total": {("echo", "running"): 0.3},
        },
    ),
    (
        LeaseWasLost(lease(), "echo", 0.4, "extend"),
        {
            "tasks_cancelled_total": {(*KEY, "lease_lost"): 1},
            "fenced_writes_total": {("extend",): 1},
            "task_state_seconds_total": {("echo", "running"): 0.4},
        },
    ),
    (TaskReaped("t", "low", "queued"), {"tasks_reaped_total": {("low",): 1}}),
    (
        TaskReaped("t", "low", "dead"),
        {"tasks_reaped_total": {("low",): 1}, "tasks_dead_total": {("unknown", "low", "reaped"): 1}},
    ),
    (TasksExpired(4), {"tasks_expired_total": {(): 4}}),
    (
        TasksSubmitted("high", created=3, duplicates=2, payload_bytes=600),
        {"tasks_enqueued_total": {("high",): 3}, "tasks_deduplicated_total": {("high",): 2}},
    ),
    (SubmissionRefused("queue-full"), {"tasks_rejected_total": {("queue-full",): 1}}),
    (SampleFailed(), {"metrics_sample_failures_total": {(): 1}}),
    (BrokerCalled("step", 0.001), {}),
    (BrokerCalled("step", 0.001, "unavailable"), {"redis_errors_total": {("step", "unavailable"): 1}}),
    (LoopStalled(2.0, "stack", ()), {"loop_stalls_total": {(): 1}}),
    (HttpAnswered("POST", "/tasks", 202, 0.01), {}),
    (HandlerStuck(lease(), "echo", "user", 9.0, "stack"), {}),
    (Audited({"two_places": 1}), {}),
    (Lifecycle("started"), {}),
    (Trouble("tokens not reloaded"), {}),
    (OutageBegan("worker", "refused"), {}),
    (OutageEnded("worker", 1.0), {}),
    (AdmissionChanged(("low",), 0.8), {}),
]


def counts() -> Counts:
    return Counts(MeterProvider(shutdown_on_exit=False).get_meter("test"), priorities=PRIORITIES, types=TYPES)


def moved(given_: Counts) -> dict:
    """Every counter that is not at zero."""
    series = {name: {labels: n for labels, n in read().items() if n} for name, read in given_.readings().items()}
    return {name: values for name, values in series.items() if values}


@pytest.mark.parametrize(("event", "expected"), CASES, ids=lambda x: type(x).__name__)
def test_an_event_moves_these_counters_and_no_others(event, expected):
    given_ = counts()
    given_.observe(event)
    assert moved(given_) == expected


def test_every_event_has_a_case():
    cases = {type(event) for event, _ in CASES}
    seen_by_gauges = {"QueueSampled", "SlotsChanged"}
    assert {event.__name__ for event in get_args(Event)} == {case.__name__ for case in cases} | seen_by_gauges


def test_what_can_be_told_in_advance_is_there_at_zero():
    given_ = counts()
    types = (*TYPES, "unknown")
    assert set(given_.counters["tasks_failed_total"]) == {(t, p) for t in types for p in PRIORITIES}
    assert ("unknown", "low", "reaped") in given_.counters["tasks_dead_total"]
    assert set(given_.counters["task_retry_reasons_total"].values()) == {0}
    assert set(given_.readings()["task_state_seconds_total"]()) == {(t, state) for t in types for state in TASK_STATES}


def test_errors_of_an_operation_are_at_zero_from_its_first_call():
    given_ = counts()
    given_.observe(BrokerCalled("claim", 0.001))
    assert given_.counters["redis_errors_total"] == {("claim", "unavailable"): 0}


def test_a_clients_method_is_no_label():
    given_ = metrics("api")
    given_.observe(HttpAnswered("BREW", "/tasks", 405, 0.01))
    assert sum(buckets(given_, "http_server_request_duration_seconds", "_OTHER", "/tasks", "405")) == 1


def test_a_stuck_handler_is_one_until_its_attempt_has_ended():
    given_ = metrics()
    given_.observe(HandlerStuck(lease(token=1), "echo", "user", 9.0, ""))
    given_.observe(HandlerStuck(lease(token=2), "echo", "user", 9.0, ""))
    given_.observe(HandlerStuck(lease(token=2), "echo", "user", 19.0, ""))
    assert value(given_, "stuck_handlers") == 2
    given_.observe(settled(held=lease(token=1)))
    given_.observe(LeaseWasLost(lease(token=2), "echo", 20.0, "extend"))
    assert value(given_, "stuck_handlers") == 0


def test_a_priority_nobody_configured_is_counted_all_the_same():
    given_ = counts()
    given_.observe(started(lease(priority="gone")))
    given_.observe(settled(held=lease(priority="gone")))
    assert given_.counters["tasks_succeeded_total"]["echo", "gone"] == 1


def test_an_event_from_tomorrow_is_passed_over():
    counts().observe(object())


ends = st.sampled_from(
    [
        (Succeeded(b""), Complete(b"")),
        (FAILED, RETRY),
        (FAILED, Bury("exception", ERROR)),
        (RetryAsked(1.0, ERROR), RetryIn(1.0, "asked", ERROR)),
        *((Stopped(cause), Cancel(cause)) for cause in CancelCause),
        *((Stopped(cause), Release(cause)) for cause in CancelCause),
        (Stopped(CancelCause.TIMEOUT), RetryIn(1.0, "timeout", ERROR)),
        None,
    ]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(ends, st.sampled_from([*TYPES, "unknown"]), st.sampled_from(PRIORITIES))))
def test_every_attempt_is_in_exactly_one_of_three(attempts):
    given_ = metrics()
    for end, type_, priority in attempts:
        held = lease(type_, priority=priority)
        given_.observe(started(held))
        given_.observe(LeaseWasLost(held, type_, 0.1, "settle") if end is None else settled(*end, held=held))
    scraped = {(s.name, *s.labels.values()): s.value for f in given_.registry.collect() for s in f.samples}
    for type_ in (*TYPES, "unknown"):
        of_type = [
            sum(n for (name, *labels), n in scraped.items() if name == f"tasks_{end}_total" and type_ in labels)
            for end in ("succeeded", "failed", "cancelled")
        ]
        assert sum(of_type) == scraped["task_run_seconds_count", type_]
        totals = given_.work_totals()["types"][type_]
        assert [totals["succeeded"], totals["failed"], totals["cancelled"]] == of_type
        up_to = [scraped["task_run_seconds_bucket", type_, bound] for bound in (*map(str, RUN_BUCKETS), "+Inf")]
        assert list(accumulate(totals["buckets"])) == up_to
    assert sum(n for (name, *_), n in scraped.items() if name == "tasks_dequeued_total") == len(attempts)


def test_the_totals_of_a_worker_are_json():
    given_ = counts()
    given_.observe(settled(seconds=0.3))
    totals = json.loads(json.dumps(given_.work_totals()))
    assert totals["bounds"] == [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]
    assert totals["types"]["echo"] == {
        "buckets": [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        "sum": 0.3,
        "succeeded": 1,
        "failed": 0,
        "cancelled": 0,
    }


def test_ten_thousand_types_make_one_series():
    given_ = metrics()
    for n in range(10_000):
        held = lease(f"type{n}")
        given_.observe(started(held).__class__(held, "unknown", 0.1))
        given_.observe(settled(held=held).__class__(held, "unknown", Succeeded(b""), Complete(b""), 0.1))
    for i in INSTRUMENTS:
        if "type" in i.labels:
            found = [s for f in given_.registry.collect() for s in f.samples if s.name in i.series]
            assert {sample.labels["type"] for sample in found} == {*TYPES, "unknown"}
