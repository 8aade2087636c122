"""What operators ask and order: the DLQ, priorities, workers, targets, the summary."""

from datetime import datetime
from typing import Any

import msgspec
import pytest
import trio

from taskward.api.sampling import LOOKED_FOR_MS, Report, Sampling, Seen, targets
from taskward.api.summary import TypeWork, Work
from taskward.broker.broker import WORKER_SILENT_MS, Broker
from taskward.events import QueueSampled, ignore
from taskward.policy.retry import Bury, Cancel, Complete, Decision, RetryIn
from taskward.task import CancelCause
from tests.api.conftest import Api

REPORT: dict[str, Any] = {
    "id": "w:1",
    "role": "worker",
    "host": "box",
    "pid": 7,
    "started_ms": 1,
    "at_ms": 2,
    "concurrency": 10,
    "busy": 3,
    "types": ["echo"],
    "metrics_addr": ":2113",
    "draining": False,
    "running": [{"id": "t", "type": "echo", "priority": "high", "attempt": 1, "seconds": 0.5, "stuck": False}],
}


def work(succeeded: int, failed: int = 0) -> dict[str, Any]:
    """All runs took between 0.1 and 0.5 s."""
    done = {"buckets": [0, succeeded + failed, 0], "sum": 1.0, "succeeded": succeeded, "failed": failed, "cancelled": 0}
    return {"bounds": [0.1, 0.5], "types": {"echo": done}}


async def report(api: Api, **more: Any) -> None:
    said = REPORT | more
    await api.broker.report(said["id"], msgspec.json.encode(said))


async def next_sample(api: Api) -> None:
    """Two whole samples that began after this call."""
    for _ in range(3):
        seen = sum(isinstance(event, QueueSampled) for event in api.events)
        await api.events.wait_for(
            lambda _, seen=seen: sum(isinstance(event, QueueSampled) for event in api.events) > seen  # type: ignore[misc]
        )


def told(redriven: dict[str, Any]) -> tuple[int, int, bool, bool]:
    """What is said of every redrive; no canary was asked for."""
    assert (redriven["canary"], redriven["stopped"]) == (None, False)
    return redriven["matched"], redriven["redriven"], redriven["more"], redriven["dry_run"]


async def test_dead_tasks_are_listed_and_go_back(api: Api) -> None:
    ids = [await api.bury("a"), await api.bury("a"), await api.bury("b", priority="high")]
    await api.submit("a", delay_seconds=60)
    listed = (await api.http.get("/dlq")).json()["tasks"]
    assert {task["id"] for task in listed} == set(ids)
    assert {task["state"] for task in listed} == {"dead"}
    assert [task["id"] for task in (await api.http.get("/dlq?type=b")).json()["tasks"]] == ids[2:]

    answer = await api.http.post("/dlq/redrive", json={"type": "a", "dry_run": True})
    assert told(answer.json()) == (2, 0, False, True)
    answer = await api.http.post("/dlq/redrive", json={"type": "a", "limit": 1})
    assert told(answer.json()) == (1, 1, True, False)
    answer = await api.http.post("/dlq/redrive", json={})
    assert told(answer.json()) == (2, 2, False, False)
    assert (await api.http.get("/dlq")).json()["tasks"] == []


async def test_many_dead_tasks_go_back_page_by_page(api: Api) -> None:
    await api.http.post("/tasks/batch", json=[{"type": "echo"}] * 450)
    for lease in await api.claim(450):
        await api.settle(lease, Bury("exception"))
    answer = await api.http.post("/dlq/redrive", json={"limit": 420})
    assert told(answer.json()) == (420, 420, True, False)
    assert len((await api.http.get("/dlq")).json()["tasks"]) == 30


async def test_who_died_last_is_seen_first_and_goes_back_last(api: Api) -> None:
    ids = [await api.bury() for _ in range(3)]
    for path in "/dlq", "/tasks?state=dead", "/tasks":
        assert [task["id"] for task in (await api.http.get(path)).json()["tasks"]] == ids[::-1]
    answer = await api.http.post("/dlq/redrive", json={"limit": 1})
    assert told(answer.json()) == (1, 1, True, False)
    assert [task["id"] for task in (await api.http.get("/dlq")).json()["tasks"]] == [ids[2], ids[1]]


async def test_dead_tasks_go_back_one_after_the_other_at_a_pace(api: Api) -> None:
    ids = [await api.bury() for _ in range(3)]
    answer = await api.http.post("/dlq/redrive", json={"per_second": 0.01})
    assert told(answer.json()) == (3, 3, False, False)
    tasks = [(await api.http.get(f"/tasks/{id}")).json() for id in ids]
    assert [task["state"] for task in tasks] == ["queued", "scheduled", "scheduled"]
    second, third = (datetime.fromisoformat(task["run_at"]) for task in tasks[1:])
    assert (third - second).total_seconds() == 100


async def redrive_five(api: Api, *decisions: Decision, **order: Any) -> Any:
    """The answer for five dead tasks, two of them canaries, of which each ends with the decision that is named."""
    for _ in range(5):
        await api.bury()
    answers = []

    async def ask() -> None:
        answers.append((await api.http.post("/dlq/redrive", json={"canary": 2, **order})).json())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        for decision in decisions:
            await api.settle(await api.next_claim(), decision)
    return answers[0]


async def test_the_rest_follows_a_canary_that_succeeds(api: Api) -> None:
    answer = await redrive_five(api, Complete(b"1"), Complete(b"2"), limit=4)
    assert answer == {
        "matched": 4,
        "redriven": 4,
        "more": True,
        "dry_run": False,
        "canary": {"succeeded": 2, "failed": 0, "unfinished": 0},
        "stopped": False,
    }
    assert len((await api.http.get("/dlq")).json()["tasks"]) == 1


@pytest.mark.parametrize(
    ("failure", "failures", "redriven"),
    [
        (Bury("exception"), 0, 2),
        (RetryIn(60.0, "exception"), 0, 2),
        (Cancel(CancelCause.DEADLINE), 0, 2),
        (Bury("exception"), 1, 5),  # and not the one that is dead again
    ],
)
async def test_a_canary_that_fails_stops_the_rest(api: Api, failure: Decision, failures: int, redriven: int) -> None:
    answer = await redrive_five(api, Complete(b"1"), failure, canary_failures=failures)
    assert (answer["canary"], answer["redriven"]) == ({"succeeded": 1, "failed": 1, "unfinished": 0}, redriven)
    assert answer["stopped"] is (redriven == 2)
    dead = (await api.http.get("/dlq")).json()["tasks"]
    assert len(dead) == 5 - redriven + isinstance(failure, Bury)


async def test_a_canary_that_takes_too_long_stops_the_rest(api: Api) -> None:
    answer = await redrive_five(api, Complete(b"1"), canary_seconds=0.3)
    assert (answer["canary"], answer["stopped"]) == ({"succeeded": 1, "failed": 0, "unfinished": 1}, True)


async def test_one_dead_task_goes_back(api: Api) -> None:
    id = await api.bury()
    answer = await api.http.post(f"/dlq/{id}/redrive")
    assert (answer.status_code, answer.json()) == (200, {"id": id, "state": "queued"})
    again = await api.http.post(f"/dlq/{id}/redrive")
    assert (again.status_code, again.json()["type"]) == (409, "/problems/invalid-transition")


async def test_a_dead_task_can_be_removed(api: Api) -> None:
    id = await api.bury()
    waiting = await api.submit()
    answer = await api.http.delete(f"/dlq/{id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await api.http.get(f"/tasks/{id}")).status_code == 404
    answer = await api.http.delete(f"/dlq/{waiting}")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/invalid-transition")


@pytest.mark.parametrize(
    ("order", "pointer"), [({"limit": 0}, "/limit"), ({"dryrun": True}, "/dryrun"), ({"type": 5}, "/type"), ([], "")]
)
async def test_an_order_to_redrive_is_checked(api: Api, order: Any, pointer: str) -> None:
    await api.bury()
    answer = await api.http.post("/dlq/redrive", json=order)
    assert (answer.status_code, answer.json()["pointer"]) == (422, pointer)
    assert len((await api.http.get("/dlq")).json()["tasks"]) == 1


async def test_a_priority_can_be_paused(api: Api) -> None:
    id = await api.submit(priority="high")
    answer = await api.http.post("/queues/high/pause")
    assert (answer.status_code, answer.json()) == (200, {"priority": "high", "paused": True})
    assert await api.claim() == []
    queues = {queue["priority"]: queue for queue in (await api.http.get("/queues")).json()["queues"]}
    assert list(queues) == ["high", "default", "low"]
    assert (queues["high"]["paused"], queues["high"]["queued"], queues["low"]["paused"]) == (True, 1, False)
    assert queues["high"]["oldest_queued_age_seconds"] >= 0
    assert queues["low"]["oldest_queued_age_seconds"] is None
    answer = await api.http.post("/queues/high/resume")
    assert answer.json() == {"priority": "high", "paused": False}
    assert [lease.id for lease in await api.claim()] == [id]


async def test_a_priority_can_be_purged(api: Api) -> None:
    running = await api.submit(priority="high")
    assert [lease.id for lease in await api.claim()] == [running]
    ids = [await api.submit(priority="high"), await api.submit(priority="high", delay_seconds=60)]
    other = await api.submit(priority="low")
    answer = await api.http.post("/queues/high/purge", params={"limit": 1})
    assert (answer.status_code, answer.json()) == (200, {"priority": "high", "cancelled": 1, "more": True})
    answer = await api.http.post("/queues/high/purge")
    assert answer.json() == {"priority": "high", "cancelled": 1, "more": False}
    for id, state in dict.fromkeys(ids, "cancelled").items() | {(running, "running"), (other, "queued")}:
        assert (await api.http.get(f"/tasks/{id}")).json()["state"] == state
    answer = await api.http.post("/queues/high/purge", params={"limit": 0})
    assert (answer.status_code, answer.json()["pointer"]) == (422, "/limit")


async def test_a_priority_nobody_configured_is_not_found(api: Api) -> None:
    for verb in ("pause", "resume", "purge"):
        answer = await api.http.post(f"/queues/urgent/{verb}")
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert await api.broker.paused() == frozenset()


async def test_workers_are_shown_in_their_own_words(api: Api) -> None:
    await report(api)
    await report(api, id="a:2", extra="of a later release")
    await api.broker.report("broken", b"{")
    workers = (await api.http.get("/workers")).json()["workers"]
    assert [worker["id"] for worker in workers] == ["a:2", "w:1"]
    assert workers[1]["report"] == REPORT
    assert workers[0]["report"]["extra"] == "of a later release"
    assert all(worker["live"] and worker["silent_seconds"] < 5 for worker in workers)
    assert (await api.http.get("/workers/w:1")).json()["report"] == REPORT
    answer = await api.http.get("/workers/gone")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


async def test_prometheus_is_told_of_every_process(api: Api) -> None:
    await report(api)
    await report(api, id="w:2", host="box2")
    await report(api, id="w:3", metrics_addr="10.0.0.3:9000")
    await report(api, id="w:4", metrics_addr="")
    await next_sample(api)
    answer = await api.http.get("/prometheus/targets")
    assert answer.headers["Content-Type"] == "application/json"
    api_group, worker_group = answer.json()
    assert api_group["labels"] == {"job": "taskward-api"}
    assert [target.rpartition(":")[2] for target in api_group["targets"]] == ["2112"]
    assert worker_group == {
        "targets": ["10.0.0.3:9000", "box2:2113", "box:2113"],
        "labels": {"job": "taskward-worker"},
    }


@pytest.mark.parametrize(("silent_ms", "looked_for"), [(WORKER_SILENT_MS, True), (LOOKED_FOR_MS, False)])
def test_prometheus_looks_for_a_process_that_died(silent_ms: int, looked_for: bool) -> None:
    died = Seen(Report("w:1", host="box", metrics_addr=":2113"), msgspec.Raw(b"{}"), silent_ms)
    assert not died.live
    assert [group["targets"] for group in targets({"w:1": died})] == ([["box:2113"]] if looked_for else [])


async def test_an_api_that_leaves_says_so(api: Api) -> None:
    await next_sample(api)
    [id] = await api.broker.workers()
    assert id.startswith("api:")
    assert (await api.http.get(f"/workers/{id}")).status_code == 404  # nor is it in the list of workers
    api.stop.set()
    with trio.fail_after(10):
        while await api.broker.workers():
            await trio.sleep(0.01)


async def test_the_summary_is_the_last_sample_and_the_rates_of_the_last_minute(api: Api) -> None:
    await api.bury()
    await api.submit(priority="high")
    await api.submit(priority="low", delay_seconds=60)
    await report(api, work=work(0))
    await next_sample(api)
    first = (await api.http.get("/metrics/summary")).json()
    assert first["priorities"]["high"]["queued"] == 1
    assert first["priorities"]["low"]["scheduled"] == 1
    assert first["priorities"]["default"]["dead"] == 1
    assert first["processing_inflight"] == 0
    assert first["workers"] == {"live": 1, "slots": 10, "busy": 3}
    assert first["stale"] is False
    assert 0 <= first["age_seconds"] < 1
    await report(api, work=work(90, failed=10))
    await next_sample(api)
    second = (await api.http.get("/metrics/summary")).json()
    assert 0 < second["window_seconds"] <= 60
    assert second["failure_ratio"] == pytest.approx(0.1)
    assert second["throughput_per_second"] > 0
    assert second["p95_run_seconds"] == pytest.approx(0.48)
    assert list(second["types"]) == ["echo"]
    assert second["types"]["echo"]["p95_run_seconds"] == pytest.approx(0.48)


@pytest.mark.parametrize(("waiting", "seconds"), [(1, 1.0), (100, 10.0), (100_000, 60.0)])
async def test_a_refused_client_comes_back_when_the_queue_is_done(broker: Broker, waiting: int, seconds: float) -> None:
    sampling = Sampling(broker, interval=1, most_memory=0.9, metrics_addr="", observe=ignore, now_ms=lambda: 0)
    assert sampling.retry_after(waiting) == 60
    sampling._window.add(0, {})
    sampling._window.add(10, {"w": Work((), {"echo": TypeWork((), 0, succeeded=100)})})
    assert sampling.retry_after(waiting) == seconds


async def test_without_workers_the_summary_says_that_nobody_knows(api: Api) -> None:
    await next_sample(api)
    summary = (await api.http.get("/metrics/summary")).json()
    assert summary["workers"] == {"live": 0, "slots": 0, "busy": 0}
    assert (summary["p95_run_seconds"], summary["failure_ratio"], summary["types"]) == (None, None, {})
    assert summary["throughput_per_second"] == 0
