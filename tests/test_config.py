"""Config: every setting is read, checked, and complained of in one line that names it."""

from dataclasses import fields
from typing import Any

import pytest

from taskward.config import Config, split_addr
from taskward.errors import ConfigError

SETTINGS = {f.metadata["env"]: f for f in fields(Config)}
NUMBERS: dict[str, Any] = {env: f for env, f in SETTINGS.items() if type(f.default) is int}
# For each that is not a number, a value it takes.
WORDS: dict[str, tuple[str, Any]] = {
    "REDIS_URL": ("redis://elsewhere:1234/5", "redis://elsewhere:1234/5"),
    "QUEUE": ("mail-2", "mail-2"),
    "API_ADDR": ("127.0.0.1:9090", "127.0.0.1:9090"),
    "API_AUTH": ("off", "off"),
    "API_TOKENS_FILE": ("tokens.json", "tokens.json"),
    "METRICS_ADDR": (":9112", ":9112"),
    "PRIORITIES": ("a:5, b", (("a", 5), ("b", 1))),
    "PRIORITY_MODE": ("strict", "strict"),
    "LOG_LEVEL": ("debug", "debug"),
    "LOG_FORMAT": ("json", "json"),
}


def _error(**env: str) -> str:
    with pytest.raises(ConfigError) as caught:
        Config.from_env(env)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Config.from_env({}) == Config()


def test_every_setting_has_a_test_value() -> None:
    assert set(NUMBERS) | set(WORDS) == set(SETTINGS)


@pytest.mark.parametrize("env", sorted(WORDS))
def test_a_word_is_read(env: str) -> None:
    text, value = WORDS[env]
    config = Config.from_env({env: text})
    assert getattr(config, SETTINGS[env].name) == value != SETTINGS[env].default


@pytest.mark.parametrize("env", sorted(NUMBERS))
def test_a_number_is_read(env: str) -> None:
    value = NUMBERS[env].default + 1
    assert getattr(Config.from_env({env: str(value)}), NUMBERS[env].name) == value


@pytest.mark.parametrize("env", sorted(NUMBERS))
def test_a_number_has_bounds(env: str) -> None:
    low, high = NUMBERS[env].metadata["low"], NUMBERS[env].metadata["high"]
    assert low is not None
    Config.from_env({env: str(low)})
    assert _error(**{env: str(low - 1)}).startswith(f"{env}={low - 1}: must be ")
    if high is not None:
        Config.from_env({env: str(high)})
        assert _error(**{env: str(high + 1)}) == f"{env}={high + 1}: must be {low} to {high}"


@pytest.mark.parametrize("env", sorted(NUMBERS))
@pytest.mark.parametrize("text", ["many", "1.5", "0x10", "1 000", "--1"])
def test_what_is_no_number(env: str, text: str) -> None:
    assert _error(**{env: text}) == f"{env}={text!r}: a whole number is needed"


@pytest.mark.parametrize("env", sorted(SETTINGS))
def test_an_empty_value_is_none(env: str) -> None:
    assert Config.from_env({env: ""}) == Config()


@pytest.mark.parametrize("env", ["API_AUTH", "PRIORITY_MODE", "LOG_LEVEL", "LOG_FORMAT"])
@pytest.mark.parametrize("text", ["nonsense", "ON", " off"])
def test_a_word_outside_the_choice(env: str, text: str) -> None:
    assert _error(**{env: text}).startswith(f"{env}={text!r}: must be ")


@pytest.mark.parametrize("text", ["UPPER", "with space", "1st", "-x", "a" * 33, "{x}", "a:b", "é"])
def test_a_queue_has_a_plain_name(text: str) -> None:
    assert _error(QUEUE=text).startswith(f"QUEUE={text!r}: ")


@pytest.mark.parametrize(
    "text",
    ["high:0", "high:1001", "high:-1", "high:x", ":3", ",", "high:1,", "High:1", "a:1,a:2", "a|b:1", "a b:1"],
)
def test_priorities_that_cannot_be(text: str) -> None:
    assert _error(PRIORITIES=text).startswith(f"PRIORITIES={text!r}: ")


def test_there_are_at_most_sixteen_priorities() -> None:
    names = [f"p{n}" for n in range(17)]
    assert len(Config.from_env({"PRIORITIES": ",".join(names[:16])}).priorities) == 16
    assert "at most 16" in _error(PRIORITIES=",".join(names))


def test_priority_names_highest_first() -> None:
    assert Config().priority_names == ("high", "default", "low")
    assert Config.from_env({"PRIORITIES": "z:1,a:9"}).priority_names == ("z", "a")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("REDIS_URI", "REDIS_URL"),
        ("LEASE_MSS", "LEASE_MS"),
        ("METRIC_ADDR", "METRICS_ADDR"),
        ("WORKER_CONCURENCY", "WORKER_CONCURRENCY"),
        ("SHUTDOWN_GRACE", "SHUTDOWN_GRACE_MS"),
        ("PRIORITY_MODES", "PRIORITY_MODE"),
    ],
)
def test_a_misspelt_name(wrong: str, right: str) -> None:
    assert _error(**{wrong: "1"}) == f"{wrong} is not a setting; did you mean {right}?"


def test_names_of_others_are_left_alone() -> None:
    others = ["PATH", "HOME", "LANG", "QUEUES", "OTEL_SERVICE_NAME", "LOGNAME", "PYTHONPATH", "PORT", "DATABASE_URL"]
    assert Config.from_env(dict.fromkeys(others, "x")) == Config()


def test_every_setting_is_documented_by_its_row() -> None:
    for env, f in SETTINGS.items():
        assert env == f.name.upper()
        assert f.metadata["text"]


def test_a_config_is_checked_however_it_is_made() -> None:
    with pytest.raises(ConfigError, match="LEASE_MS"):
        Config(lease_ms=1)


@pytest.mark.parametrize(
    ("addr", "split"),
    [
        (":8080", ("", 8080)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:80", ("::1", 80)),
        ("host:65535", ("host", 65535)),
    ],
)
def test_an_address(addr: str, split: tuple[str, int]) -> None:
    assert split_addr("API_ADDR", addr) == split


@pytest.mark.parametrize("addr", ["", "8080x", "host", "host:", "host:65536", "host:-1", ":http"])
def test_an_address_that_is_none(addr: str) -> None:
    with pytest.raises(ConfigError, match="API_ADDR"):
        split_addr("API_ADDR", addr)
