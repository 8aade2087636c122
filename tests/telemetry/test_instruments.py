"""The table says what the documentation promised, and the documentation says what the table holds."""

from pathlib import Path

import pytest

from taskward.telemetry.instruments import BOTH, DOCUMENTED, INSTRUMENTS, WORKER, as_markdown, for_role

from .given import instrument

PROMISED = {
    "task_run_seconds": ("histogram", ("type",)),
    "enqueue_to_start_seconds": ("histogram", ("priority",)),
    "queue_depth": ("gauge", ("priority",)),
    "retry_set_depth": ("gauge", ("priority",)),
    "dlq_depth": ("gauge", ("priority",)),
    "processing_inflight": ("gauge", ()),
    "tasks_enqueued_total": ("counter", ("priority",)),
    "tasks_dequeued_total": ("counter", ("priority",)),
    "tasks_succeeded_total": ("counter", ("type", "priority")),
    "tasks_failed_total": ("counter", ("type", "priority")),
    "tasks_retried_total": ("counter", ("type", "priority")),
    "tasks_reaped_total": ("counter", ("priority",)),
}


def test_the_documented_metrics_have_their_names_kinds_and_labels():
    assert {i.name: (i.kind, i.labels) for i in DOCUMENTED} == PROMISED


def test_run_time_is_counted_from_10_ms_to_30_s_and_half_a_second_is_a_bound():
    bounds = instrument("task_run_seconds").buckets
    assert (bounds[0], bounds[-1]) == (0.01, 30.0)
    assert 0.5 in bounds
    assert set(bounds) < set(instrument("enqueue_to_start_seconds").buckets)


def test_names_are_unique():
    names = [i.name for i in INSTRUMENTS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("i", INSTRUMENTS, ids=lambda i: i.name)
def test_a_name_says_what_it_is(i):
    assert i.name.endswith("_total") == (i.kind == "counter")
    if i.unit == "s":
        assert i.name.removesuffix("_total").endswith("_seconds")
    assert i.help.endswith(".")
    assert not i.name.startswith("otel")


@pytest.mark.parametrize("i", [i for i in INSTRUMENTS if i.kind == "histogram"], ids=lambda i: i.name)
def test_bounds_are_growing_floats(i):
    assert all(isinstance(bound, float) for bound in i.buckets)
    assert list(i.buckets) == sorted(set(i.buckets))
    assert i.series == (f"{i.name}_bucket", f"{i.name}_sum", f"{i.name}_count")


@pytest.mark.parametrize("i", INSTRUMENTS, ids=lambda i: i.name)
def test_only_known_labels_have_known_values(i):
    assert set(i.known or {}) <= set(i.labels)
    assert i.roles in (BOTH, WORKER) or "api" in i.roles


def test_a_process_exports_what_is_its_own():
    api, worker = ({i.name for i in for_role(role)} for role in ("api", "worker"))
    assert "tasks_rejected_total" in api - worker
    assert "task_run_seconds" in worker - api
    assert "queue_depth" in worker & api


def test_the_documentation_is_the_table():
    document = Path(__file__).parents[2].joinpath("docs/metrics.md").read_text(encoding="utf-8")
    assert document.endswith(as_markdown()), "docs/metrics.md is not what instruments.as_markdown() gives"
