"""docker-compose.yml, held to the code it starts and the files it mounts."""

import re
from dataclasses import fields

import pytest

from taskward.cli.main import build_parser
from taskward.config import Config
from taskward.telemetry.otlp import asks_for

from .files import COMPOSE, ROOT, text

SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
SETTINGS = {f.metadata["env"] for f in fields(Config)}
PORTS = {
    "api": [8080, 2112],
    "worker": [2113],
    "prometheus": [9090],
    "grafana": [3000],
    "valkey": [],
    "otel-collector": [],
}

every_service = pytest.mark.parametrize("name", SERVICES)
each_of_ours = pytest.mark.parametrize("name", OURS)


@every_service
def test_ports_are_the_documented_ones_and_for_this_machine_only(name):
    published = [port.rsplit(":", 2) for port in SERVICES[name].get("ports", [])]
    assert [(host, int(outside), int(inside)) for host, outside, inside in published] == [
        ("127.0.0.1", port, port) for port in PORTS[name]
    ]


@each_of_ours
def test_commands_are_ones_the_command_line_knows(name):
    program, *arguments = SERVICES[name]["command"]
    assert program == "taskward"
    build_parser().parse_args(arguments)


def test_the_services_are_api_and_worker():
    assert set(OURS) == {"api", "worker"}
    assert SERVICES["worker"]["command"] == ["taskward", "worker", "--app", "examples.app:app"]


@each_of_ours
def test_settings_exist_and_can_be_used(name):
    environment = {
        key: re.sub(r"\$\{\w+:-(.*?)}", r"\1", value) for key, value in SERVICES[name]["environment"].items()
    }
    assert {key for key in environment if not key.startswith("OTEL_")} <= SETTINGS
    config = Config.from_env(environment)
    assert config.redis_url == "redis://valkey:6379/0"
    published = [int(port.rsplit(":", 1)[1]) for port in SERVICES[name]["ports"]]
    listening = [config.metrics_addr] + ([config.api_addr] if name == "api" else [])
    assert sorted(listening) == sorted(f":{port}" for port in published)


@each_of_ours
def test_a_stop_leaves_tasks_the_time_they_were_promised(name):
    config = Config.from_env({})
    promised = (config.shutdown_grace_ms + config.cancel_grace_ms) / 1000
    assert float(SERVICES[name]["stop_grace_period"].removesuffix("s")) > promised


def test_the_lack_of_authentication_is_said_where_it_is_set():
    assert SERVICES["api"]["environment"]["API_AUTH"] == "off"
    before = text("docker-compose.yml").partition('API_AUTH: "off"')[0].splitlines()[-4:]
    assert any("NO AUTHENTICATION" in line for line in before)


def test_the_store_can_lose_nothing_it_has_acknowledged_and_is_set_up_as_the_embedded_one():
    command = SERVICES["valkey"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options == {
        "--appendonly": "yes",
        "--appendfsync": "always",
        "--maxmemory-policy": "noeviction",
        "--zset-max-listpack-entries": "0",
    }
    assert any(volume.endswith(":/data") for volume in SERVICES["valkey"]["volumes"])


@every_service
def test_what_is_mounted_exists(name):
    for volume in SERVICES[name].get("volumes", []):
        source, _target, *mode = volume.split(":")
        if source.startswith("./"):
            assert (ROOT / source).exists()
            assert mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"]


@every_service
def test_what_a_service_waits_for_exists_and_tells_when_it_is_there(name):
    for other, waited in SERVICES[name].get("depends_on", {}).items():
        assert waited["condition"] in ("service_healthy", "service_started")
        assert "healthcheck" in SERVICES[other]


@every_service
def test_images_are_pinned_or_built_here(name):
    service = SERVICES[name]
    assert "build" in service or re.search(r":v?\d+\.\d+", service["image"])


def test_prometheus_keeps_exemplars_and_finds_its_files():
    command, volumes = SERVICES["prometheus"]["command"], SERVICES["prometheus"]["volumes"]
    assert "--enable-feature=exemplar-storage" in command
    mounted = dict(volume.split(":")[:2] for volume in volumes)
    assert f"--config.file={mounted['./prometheus.yml']}" in command
    assert mounted["./alerts.yml"].rpartition("/")[0] == mounted["./prometheus.yml"].rpartition("/")[0]


@each_of_ours
def test_nothing_is_sent_to_the_collector_unless_asked(name):
    environment = SERVICES[name]["environment"]
    for chosen in ("none", "otlp"):
        exporters = {key: re.sub(r"\$\{\w+:-none}", chosen, value) for key, value in environment.items()}
        assert {asks_for(exporters, signal) for signal in ("traces", "metrics")} == {chosen == "otlp"}


def test_the_collector_is_started_only_when_asked_for():
    assert SERVICES["otel-collector"]["profiles"] == ["otel"]
    assert not any("profiles" in service for name, service in SERVICES.items() if name != "otel-collector")
