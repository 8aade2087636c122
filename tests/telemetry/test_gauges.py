"""Gauges tell the latest reading, and nothing rather than an old one."""

import threading

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from taskward.events import Audited, SlotsChanged

from .given import PRIORITIES, StillClock, lease, metrics, sample, settled, value


@pytest.fixture
def clock():
    return StillClock()


def test_before_the_first_sample_there_is_none(clock):
    given = metrics(clock=clock)
    assert value(given, "queue_depth", "high") is None
    assert value(given, "processing_inflight") is None
    assert value(given, "metrics_sample_timestamp_seconds") is None
    assert value(given, "worker_slots_busy") is None


def test_a_sample_is_shown_for_every_priority_zeros_too(clock):
    given = metrics("api", clock=clock)
    given.observe(sample(queued=0))
    assert [value(given, "queue_depth", p) for p in PRIORITIES] == [0, 0, 0]
    assert value(given, "retry_set_depth", "low") == 2
    assert value(given, "dlq_depth", "low") == 4
    assert value(given, "scheduled_depth", "low") == 1
    assert value(given, "processing_inflight") == 5
    assert value(given, "workers_live") == 2
    assert value(given, "metrics_sample_timestamp_seconds") == 1_700_000_000
    assert value(given, "metrics_sample_duration_seconds") == 0.004


def test_an_age_is_zero_where_nothing_waits(clock):
    given = metrics(clock=clock)
    given.observe(sample(oldest=None))
    assert value(given, "queue_oldest_task_age_seconds", "high") == 0
    given.observe(sample(oldest=0.25))
    assert value(given, "queue_oldest_task_age_seconds", "high") == 0.25
    assert value(given, "retry_overdue_seconds", "high") == 0


@pytest.mark.parametrize(("sample_seconds", "lasts"), [(0.05, 10.0), (2.0, 10.0), (60.0, 180.0)])
def test_an_old_sample_vanishes_and_its_time_stays(clock, sample_seconds, lasts):
    given = metrics(clock=clock, sample_seconds=sample_seconds)
    given.observe(sample())
    clock.now += lasts
    assert value(given, "queue_depth", "high") == 3
    clock.now += 0.001
    for name in ("queue_depth", "queue_oldest_task_age_seconds", "retry_set_depth", "dlq_depth", "scheduled_depth"):
        assert value(given, name, "high") is None
    assert value(given, "processing_inflight") is None
    assert value(given, "workers_live") is None
    assert value(given, "metrics_sample_timestamp_seconds") == 1_700_000_000
    given.observe(sample(queued=8))
    assert value(given, "queue_depth", "high") == 8
    assert value(given, "redis_memory_used_ratio") == 0.25


def test_slots_and_violations_are_the_latest():
    given = metrics()
    given.observe(SlotsChanged(3, 100))
    given.observe(SlotsChanged(4, 100))
    given.observe(Audited({"two_places": 1, "stale_record": 1}))
    given.observe(Audited({"two_places": 2}))
    assert (value(given, "worker_slots_busy"), value(given, "worker_slots")) == (4, 100)
    assert value(given, "invariant_violations", "two_places") == 2
    assert value(given, "invariant_violations", "stale_record") == 0


def test_before_the_first_pass_nothing_is_said_of_violations():
    assert value(metrics(), "invariant_violations", "two_places") is None


def test_readings_from_another_thread_do_not_meet_with_the_counting():
    """A push reads in a thread of its own. What it may meet: series that are new."""
    reader = InMemoryMetricReader()
    given = metrics(readers=[reader])
    stop = threading.Event()

    def read():
        while not stop.is_set():
            reader.get_metrics_data()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for n in range(500):
            given.observe(settled(held=lease(priority=f"priority{n}")))
    finally:
        stop.set()
        thread.join()
    assert value(given, "tasks_succeeded_total", "echo", "priority499") == 1
