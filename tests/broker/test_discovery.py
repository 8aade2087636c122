"""URLs that say whom to ask; tests/faults/test_failover.py has the sentinels, test_cluster.py the nodes."""

import pytest

from taskward.broker.connection import open_connection
from taskward.broker.discovery import parse
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


@pytest.mark.parametrize(
    ("url", "nodes", "login"),
    [
        ("redis+cluster://a:1,b", [("a", 1), ("b", 6379)], {"db": 0}),
        ("redis+cluster://me:p%40ss@[::1]:1", [("::1", 1)], {"db": 0, "username": "me", "password": "p@ss"}),
    ],
)
def test_what_the_url_of_a_cluster_says(url: str, nodes: list[tuple[str, int]], login: dict[str, object]) -> None:
    assert parse(url) == (nodes, "", login)


@pytest.mark.parametrize("rest", ["", "a:1", "a:1/", "a:port/tasks", "a:1,/tasks", "/tasks", "a:1/tasks/one"])
async def test_a_url_that_is_none(rest: str) -> None:
    await is_refused(f"redis+sentinel://:secret@{rest}")


@pytest.mark.parametrize("rest", ["", "a:port", "a:1,", "a:1/tasks", "a:1/1"])
async def test_a_url_that_is_no_clusters(rest: str) -> None:
    await is_refused(f"redis+cluster://:secret@{rest}")


async def is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="REDIS_URL") as caught:
        async with open_connection(url, name="tests", queue="q"):
            pass
    assert "secret" not in str(caught.value)
