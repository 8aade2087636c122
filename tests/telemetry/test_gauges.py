"""Gauges tell the latest reading, and nothing rather than an old one."""

import pytest

from taskward.events import SlotsChanged

from .given import PRIORITIES, StillClock, metrics, sample, value


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


def test_an_age_is_absent_where_nothing_waits(clock):
    given = metrics(clock=clock)
    given.observe(sample(oldest=None))
    assert value(given, "queue_oldest_task_age_seconds", "high") is None
    given.observe(sample(oldest=0.25))
    assert value(given, "queue_oldest_task_age_seconds", "high") == 0.25
    assert value(given, "retry_overdue_seconds", "high") is None


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


def test_slots_and_violations_are_the_latest():
    given = metrics()
    given.observe(SlotsChanged(3, 100))
    given.observe(SlotsChanged(4, 100))
    given.audited({"missing_spec": 0, "two_places": 2})
    assert (value(given, "worker_slots_busy"), value(given, "worker_slots")) == (4, 100)
    assert value(given, "invariant_violations", "two_places") == 2


def test_every_gauge_of_the_table_can_be_read():
    for role in ("api", "worker"):
        given = metrics(role)
        given.observe(sample())
        for i in given.instruments:
            if i.kind == "gauge":
                assert all(len(labels) == len(i.labels) for labels in given.values(i)), i.name
