"""redis+sentinel:// URLs; tests/faults/test_failover.py has the sentinels."""

import pytest

from taskward.broker.connection import open_connection
from taskward.broker.sentinel import parse
from taskward.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "sentinels", "service", "login"),
    [
        ("redis+sentinel://a:1,b:2/tasks/3", [("a", 1), ("b", 2)], "tasks", {"db": 3}),
        ("redis+sentinel://a,b/tasks", [("a", 26379), ("b", 26379)], "tasks", {"db": 0}),
        ("redis+sentinel://[::1]:1,[::2]/tasks", [("::1", 1), ("::2", 26379)], "tasks", {"db": 0}),
        ("redis+sentinel://:p%40ss@a:1/tasks", [("a", 1)], "tasks", {"db": 0, "password": "p@ss"}),
        ("redis+sentinel://me:pw@a:1/t", [("a", 1)], "t", {"db": 0, "username": "me", "password": "pw"}),
    ],
)
def test_what_a_url_says(url: str, sentinels: list[tuple[str, int]], service: str, login: dict[str, object]) -> None:
    assert parse(url) == (sentinels, service, login)


@pytest.mark.parametrize("rest", ["", "a:1", "a:1/", "a:port/tasks", "a:1,/tasks", "/tasks", "a:1/tasks/one"])
async def test_a_url_that_is_none(rest: str) -> None:
    with pytest.raises(ConfigError, match="REDIS_URL") as caught:
        async with open_connection(f"redis+sentinel://:secret@{rest}", name="tests"):
            pass
    assert "secret" not in str(caught.value)
