"""Every expression of alerts, dashboard and runbooks asks for something that is exported, and asks rightly."""

import pytest

from . import promql
from .files import annotation_exprs, panel_exprs, rule_exprs, runbook_exprs

EXPRS = [
    *(pytest.param(expr, id=f"rule {name}") for name, expr in rule_exprs()),
    *(pytest.param(expr, id=f"panel {title}") for title, expr in panel_exprs()),
    *(pytest.param(expr, id=f"annotation {name}") for name, expr in annotation_exprs()),
    *(pytest.param(expr, id=f"runbook {line}") for line, expr in runbook_exprs()),
]
RATES = {"rate", "irate", "increase"}

every_expr = pytest.mark.parametrize("expr", EXPRS)


@every_expr
def test_it_names_only_metrics_and_labels_that_are_exported(expr):
    for selector in promql.selectors(expr):
        assert set(selector.matchers) <= promql.labels_of(selector.name), selector
    for grouped, available in promql.groupings(expr):
        assert grouped <= available


@every_expr
def test_what_every_process_says_of_the_whole_queue_is_never_added_up(expr):
    for selector in promql.selectors(expr):
        instrument = promql.SERIES.get(selector.name)
        if instrument is not None and instrument.cluster and "absent" not in selector.functions:
            assert selector.aggregation in ("max", "min"), selector


@every_expr
def test_counters_are_asked_for_their_growth_and_gauges_for_their_value(expr):
    for selector in promql.selectors(expr):
        assert promql.only_grows(selector.name) == bool(selector.functions & RATES), selector


def test_the_checks_see_what_is_wrong():
    with pytest.raises(KeyError):
        promql.labels_of(promql.selectors("queue_depht")[0].name)
    added_up = promql.selectors("sum(last_over_time(queue_depth[30s]))")[0]
    assert added_up.aggregation == "sum"
    assert promql.groupings("sum by (worker) (queue_depth)") == [({"worker"}, {"priority", "job", "instance"})]
