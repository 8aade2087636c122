"""otel/collector.yaml: a pipeline in which everything that is named is defined, and the other way round."""

import pytest

from .files import COMPOSE, load

CONFIG = load("otel/collector.yaml")
PIPELINES = CONFIG["service"]["pipelines"]
# Sections, and what of them is used here. A component may have a name after a slash.
KNOWN = {
    "receivers": {"otlp"},
    "processors": {"memory_limiter", "batch"},
    "exporters": {"prometheus", "debug"},
    "extensions": {"health_check"},
}


@pytest.mark.parametrize("section", KNOWN)
def test_what_is_defined_is_used_and_what_is_used_is_defined(section):
    used = {name for pipeline in PIPELINES.values() for name in pipeline.get(section, [])}
    used |= set(CONFIG["service"].get(section, []))
    assert set(CONFIG[section]) == used
    assert {name.partition("/")[0] for name in used} == KNOWN[section]


def test_it_takes_metrics_and_traces_by_both_protocols():
    assert set(PIPELINES) == {"metrics", "traces"}
    protocols = CONFIG["receivers"]["otlp"]["protocols"]
    assert {name: protocols[name]["endpoint"] for name in protocols} == {"grpc": "0.0.0.0:4317", "http": "0.0.0.0:4318"}


@pytest.mark.parametrize("name", PIPELINES)
def test_memory_is_limited_before_anything_is_kept(name):
    assert PIPELINES[name]["processors"] == ["memory_limiter", "batch"]
    limiter = CONFIG["processors"]["memory_limiter"]
    assert limiter["spike_limit_mib"] < limiter["limit_mib"]


def test_the_processes_send_to_where_it_listens():
    http = CONFIG["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
    for name in ("api", "worker"):
        assert (
            COMPOSE["services"][name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://otel-collector:{http}"
        )
    mounted = COMPOSE["services"]["otel-collector"]["volumes"][0].split(":")[1]
    assert COMPOSE["services"]["otel-collector"]["command"] == [f"--config={mounted}"]
