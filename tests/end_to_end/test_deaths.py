"""Workers that are stopped or killed under load lose nothing."""

import time
from collections.abc import Callable
from urllib.request import urlopen

from tests.end_to_end.system import Api, Cluster

MakeCluster = Callable[..., Cluster]


def until_running(api: Api, *, at_least: int) -> None:
    """Wait until so many tasks run."""
    until = time.monotonic() + 20
    while len(api.get("/tasks?state=running&limit=200")["tasks"]) < at_least:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_sigterm_drains_within_the_grace_and_loses_nothing(cluster: MakeCluster) -> None:
    system = cluster(WORKER_CONCURRENCY="20")
    _, api = system.api()
    worker, _ = system.worker()
    ids = api.submit_many([{"type": "sleep", "payload": {"seconds": 0.2}} for _ in range(200)])
    until_running(api, at_least=10)
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 5
    states = [api.get(f"/tasks/{id}") for id in ids]
    assert {task["state"] for task in states} == {"queued", "succeeded"}
    outcomes = {attempt["outcome"] for task in states for attempt in task["attempts"]}
    assert outcomes == {"succeeded"}  # nothing was cut off: the grace was long enough
    system.worker()
    assert {task["state"] for task in api.until_done(ids).values()} == {"succeeded"}


def test_what_outlasts_the_grace_is_released_and_runs_elsewhere(cluster: MakeCluster) -> None:
    system = cluster(SHUTDOWN_GRACE_MS="200")
    _, api = system.api()
    worker, _ = system.worker()
    (id,) = api.submit_many([{"type": "sleep", "payload": {"seconds": 3}, "max_attempts": 1}])
    until_running(api, at_least=1)
    assert worker.stop() == 0
    task = api.get(f"/tasks/{id}")
    assert (task["state"], task["attempt"], task["attempts"][0]["cancel_cause"]) == ("queued", 0, "shutdown")
    system.worker()
    assert api.until_done([id])[id]["state"] == "succeeded"


def test_kill_9_of_a_worker_loses_nothing(cluster: MakeCluster) -> None:
    system = cluster(WORKER_CONCURRENCY="20")
    _, api = system.api()
    worker, _ = system.worker()
    system.worker()
    ids = api.submit_many([{"type": "sleep", "payload": {"seconds": 0.2}} for _ in range(200)])
    until_running(api, at_least=30)
    worker.kill()
    tasks = api.until_done(ids)
    assert {task["state"] for task in tasks.values()} == {"succeeded"}
    reaped = [task for task in tasks.values() if len(task["attempts"]) > 1]
    assert 1 <= len(reaped) <= 20
    assert all([a["outcome"] for a in task["attempts"]] == ["reaped", "succeeded"] for task in reaped)
    assert all(task["attempt"] == 1 for task in tasks.values())  # a lost lease uses up no attempt


def test_kill_9_of_the_api_loses_nothing_it_has_acknowledged(cluster: MakeCluster) -> None:
    system = cluster()
    first, api = system.api()
    ids = api.submit_many([{"type": "echo", "payload": n} for n in range(100)])
    first.kill()
    _, second = system.api()
    system.worker()
    assert {task["state"] for task in second.until_done(ids).values()} == {"succeeded"}


def test_a_worker_that_cannot_stop_its_handler_leaves_with_an_exit_code(cluster: MakeCluster) -> None:
    system = cluster(SHUTDOWN_GRACE_MS="100", CANCEL_GRACE_MS="300")
    _, api = system.api()
    worker, _ = system.worker("tests.end_to_end.handlers:app")
    (id,) = api.submit_many([{"type": "deaf"}])
    until_running(api, at_least=1)
    assert worker.stop() == 70
    assert "gives up" in worker.output()
    system.worker("tests.end_to_end.handlers:app")
    task = api.until_done([id])[id]
    assert (task["state"], task["result"]) == ("succeeded", "second time")


def test_a_poison_pill_goes_to_the_dlq_with_the_history_that_shows_why(cluster: MakeCluster) -> None:
    system = cluster(LEASE_MS="600", MAX_REAPS="2")
    _, api = system.api()
    (id,) = api.submit_many([{"type": "poison"}])
    for _ in range(2):
        worker, _ = system.worker("tests.end_to_end.handlers:app", ready=False)
        assert worker.wait() == -9
    system.worker()  # its reaper finds the second corpse
    task = api.until_done([id])[id]
    assert (task["state"], task["cancel_cause"]) == ("dead", "lease_lost")
    assert [a["outcome"] for a in task["attempts"]] == ["reaped", "reaped"]
    assert len({a["worker_id"] for a in task["attempts"]}) == 2


def test_a_blocked_worker_says_so_while_it_is_blocked(cluster: MakeCluster) -> None:
    system = cluster()
    _, api = system.api()
    _, scraped = system.worker("tests.end_to_end.handlers:app")
    (id,) = api.submit_many([{"type": "blocking", "payload": {"seconds": 4}}])
    until_running(api, at_least=1)
    status, body = scraped.call("GET", "/readyz", timeout=3.0)
    assert (status, body) == (503, {"ready": False, "reasons": {"loop_blocked": True}})
    assert not api.get(f"/tasks/{id}")["terminal"]
    with urlopen(f"{scraped.url}/healthz", timeout=3.0) as response:
        assert response.read() == b"alive\n"
    task = api.until_done([id])[id]
    assert (task["state"], len(task["attempts"])) == ("succeeded", 1)
    status, body = scraped.call("GET", "/readyz")
    assert (status, body["reasons"]["loop_blocked"]) == (503, True)  # for a while, so that somebody sees it
