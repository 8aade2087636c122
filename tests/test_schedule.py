"""Schedules: which moments a cron expression means, in which time zone, and what is no schedule."""

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskward import App
from taskward.errors import ConfigError
from taskward.schedule import Schedule

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


def schedule(cron: str, **fields: Any) -> Schedule:
    """One that submits tasks of type "report"."""
    app = App()
    app.schedule(fields.pop("name", "nightly"), cron, "report", **fields)
    return app.schedules["nightly"]


def ms(text: str) -> int:
    """Unix ms of an ISO time with offset."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def firings(made: Schedule, first: str, last: str) -> list[str]:
    """Those between two ISO times, as texts in UTC."""
    found = made.firings(after_ms=ms(first), until_ms=ms(last))
    return [f"{datetime.fromtimestamp(at_ms / 1000, UTC):%d %H:%M}" for at_ms in found]


def test_the_first_moment_is_out_and_the_last_is_in() -> None:
    quarters = schedule("*/15 * * * *")
    assert firings(quarters, "2026-11-24T10:00:00Z", "2026-11-24T11:00:00Z") == [
        "24 10:15",
        "24 10:30",
        "24 10:45",
        "24 11:00",
    ]
    assert firings(quarters, "2026-11-24T10:14:59.999Z", "2026-11-24T10:15:00Z") == ["24 10:15"]
    assert firings(quarters, "2026-11-24T10:15:00Z", "2026-11-24T10:29:59Z") == []


def test_three_in_the_morning_is_where_the_time_zone_says() -> None:
    berlin = schedule("0 3 * * *", timezone="Europe/Berlin")
    assert firings(berlin, "2026-01-10T12:00:00Z", "2026-01-11T12:00:00Z") == ["11 02:00"]
    assert firings(berlin, "2026-07-10T12:00:00Z", "2026-07-11T12:00:00Z") == ["11 01:00"]


def test_an_hour_that_is_left_out_or_comes_twice_gives_one_firing() -> None:
    berlin = schedule("30 2 * * *", timezone="Europe/Berlin")
    assert len(firings(berlin, "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z")) == 1
    assert len(firings(berlin, "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z")) == 1


def test_an_hourly_one_fires_every_hour_though_clocks_are_turned() -> None:
    hourly = schedule("0 * * * *", timezone="Europe/Berlin")
    for day in ("2026-03-29", "2026-10-25"):
        at = list(hourly.firings(after_ms=ms(f"{day}T00:00:00Z"), until_ms=ms(f"{day}T00:00:00Z") + 24 * HOUR_MS))
        assert [later - earlier for earlier, later in itertools.pairwise(at)] == [HOUR_MS] * 23
        assert len({hourly.id_of(at_ms) for at_ms in at}) == 24


@given(st.integers(0, 2**32), st.integers(0, 300), st.integers(0, 300))
def test_two_stretches_have_the_firings_of_the_whole(first: int, one: int, other: int) -> None:
    sevens = schedule("*/7 * * * *", timezone="America/New_York")
    start, middle, end = (first * 1000 + minutes * MINUTE_MS for minutes in (0, one, one + other))
    halves = [
        *sevens.firings(after_ms=start, until_ms=middle),
        *sevens.firings(after_ms=middle, until_ms=end),
    ]
    whole = list(sevens.firings(after_ms=start, until_ms=end))
    assert halves == whole == sorted(set(whole))


@given(
    st.integers(0, 2**32),
    st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 */6 * * SUN", "*/20 * * * * *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
)
def test_the_latest_is_the_last_that_has_fired(now: int, cron: str, timezone: str) -> None:
    made, now_ms = schedule(cron, timezone=timezone), now * 1000
    latest = made.latest(until_ms=now_ms)
    assert latest is not None
    assert next(made.firings(after_ms=latest - 1, until_ms=latest)) == latest
    assert list(made.firings(after_ms=latest, until_ms=now_ms)) == []


def test_the_latest_may_be_this_very_moment() -> None:
    at_ms = ms("2026-11-24T03:00:00Z")
    nightly = schedule("0 3 * * *")
    assert nightly.latest(until_ms=at_ms) == at_ms
    assert nightly.latest(until_ms=at_ms - 1) == at_ms - 24 * HOUR_MS


def test_an_id_says_which_firing_it_is() -> None:
    at_ms = ms("2026-11-25T03:00:00+01:00")
    assert schedule("0 3 * * *").id_of(at_ms) == "nightly-20261125T020000Z"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cron": "0 25 * * *"}, "'0 25 \\* \\* \\*': Bad hour"),
        ({"cron": "0 3 * *"}, "'0 3 \\* \\*'"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "0 3 * * *", "timezone": "Mars/Olympus"}, "time zone 'Mars/Olympus'"),
        ({"cron": "0 3 * * *", "timezone": "../etc"}, "time zone"),
        ({"cron": "0 3 * * *", "name": "no spaces"}, "name"),
        ({"cron": "0 3 * * *", "name": "x" * 41}, "name"),
        ({"cron": "0 3 * * *", "misfire_grace_seconds": -1}, "misfire_grace_seconds is 0 to"),
    ],
)
def test_what_is_no_schedule_is_refused_where_it_is_written(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        schedule(**fields)


def test_two_of_one_name_are_refused() -> None:
    app = App()
    app.schedule("nightly", "0 3 * * *", "report")
    with pytest.raises(ConfigError, match="two schedules"):
        app.schedule("nightly", "0 4 * * *", "report")
