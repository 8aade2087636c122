"""One task over HTTP: in, seen, waited for, cancelled."""

from datetime import UTC, datetime, timedelta

import pytest
import redis
import trio

from taskward.events import AdmissionChanged, HttpAnswered, SubmissionRefused, TasksSubmitted
from taskward.policy.retry import Complete, RetryIn
from taskward.task import State
from tests.api.conftest import Api, Open


async def test_a_task_is_accepted_and_can_be_read(api: Api) -> None:
    answer = await api.http.post("/tasks", json={"type": "echo", "payload": {"a": [1, None]}})
    assert answer.status_code == 202
    id = answer.json()["id"]
    assert answer.json() == {"id": id, "state": "queued", "created": True}
    assert answer.headers["Location"] == f"/tasks/{id}"
    task = (await api.http.get(answer.headers["Location"])).json()
    assert (task["id"], task["state"], task["payload"]) == (id, "queued", {"a": [1, None]})
    assert TasksSubmitted("default", 1, 0, len('{"a":[1,null]}')) in api.events


async def test_what_is_due_later_is_scheduled(api: Api) -> None:
    run_at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for fields in ({"delay_seconds": 60}, {"run_at": run_at}):
        answer = await api.http.post("/tasks", json={"type": "echo", **fields})
        assert answer.json()["state"] == "scheduled"
        assert (await api.http.get(answer.headers["Location"])).json()["state"] == "scheduled"


async def test_the_same_submission_again_is_a_replay(api: Api) -> None:
    task = {"type": "echo", "idempotency_key": "order-1"}
    first = await api.http.post("/tasks", json=task)
    second = await api.http.post("/tasks", json=task)
    assert (first.status_code, second.status_code) == (202, 200)
    assert second.json() == {"id": first.json()["id"], "state": "queued", "created": False}
    assert await api.stored() == 1
    assert TasksSubmitted("default", 0, 1) in api.events


@pytest.mark.parametrize("same", ["id", "idempotency_key"])
async def test_a_different_submission_under_the_same_name_is_a_conflict(api: Api, same: str) -> None:
    await api.submit("echo", payload=1, **{same: "mine"})
    answer = await api.http.post("/tasks", json={"type": "echo", "payload": 2, same: "mine"})
    assert answer.status_code == 409
    assert answer.json()["type"] == "/problems/conflict"
    assert await api.stored() == 1
    assert SubmissionRefused("conflict") in api.events


async def test_a_full_queue_says_when_to_come_back(open_api: Open) -> None:
    async with open_api(max_queue_depth=1) as api:
        await api.submit()
        answer = await api.http.post("/tasks", json={"type": "echo"})
        assert answer.status_code == 429
        assert answer.json()["type"] == "/problems/queue-full"
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert await api.stored() == 1


async def test_short_memory_refuses_the_lowest_priority_first(open_api: Open, client: "redis.Redis") -> None:
    async with open_api(max_queue_depth=0) as api:
        known = await api.submit(id="known", priority="low")
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] / 0.765))
        try:
            changed = await api.events.wait_for(lambda event: isinstance(event, AdmissionChanged))
            assert changed == AdmissionChanged(("low",), changed.memory)
            answer = await api.http.post("/tasks", json={"type": "echo", "priority": "low"})
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/memory-low")
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
            again = await api.http.post("/tasks", json={"type": "echo", "priority": "low", "id": known})
            assert again.status_code == 200
            await api.submit(priority="default")
        finally:
            client.config_set("maxmemory", "0")
        await api.events.wait_for(lambda event: isinstance(event, AdmissionChanged) and not event.closed)
        await api.submit(priority="low")
        assert SubmissionRefused("memory-low") in api.events


async def test_submissions_in_flight_together_share_a_round_trip(api: Api) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(api.submit)
    told = [event for event in api.events if isinstance(event, TasksSubmitted)]
    assert sum(event.created for event in told) == 20
    assert len(told) < 20


@pytest.mark.parametrize("name", ["expires_at", "deadline"])
@pytest.mark.parametrize("key", ["id", "idempotency_key"])
async def test_a_repetition_is_one_though_its_time_has_passed(api: Api, name: str, key: str) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    body = {"type": "echo", name: soon.isoformat(), key: "again"}
    first = await api.http.post("/tasks", json=body)
    assert first.status_code == 202
    await trio.sleep(0.4)
    again = await api.http.post("/tasks", json=body)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    in_batch = (await api.http.post("/tasks/batch", json=[body, body | {key: "new"}])).json()["results"]
    assert [result["status"] for result in in_batch] == [200, 422]
    new = await api.http.post("/tasks", json=body | {key: "new"})
    assert (new.status_code, new.json()["pointer"]) == (422, f"/{name}")
    assert await api.stored() == 1


async def test_a_wait_ends_with_the_task(api: Api) -> None:
    async def work() -> None:
        await api.settle(await api.next_claim(), Complete(b'"done"'))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        answer = await api.http.post("/tasks", json={"type": "echo"}, headers={"Prefer": "wait=10"})
    assert answer.status_code == 200
    assert answer.headers["Preference-Applied"] == "wait=10"
    task = answer.json()
    assert (task["state"], task["terminal"], task["result"]) == ("succeeded", True, "done")


async def test_a_wait_that_is_over_answers_with_the_task_as_it_is(api: Api) -> None:
    answer = await api.http.post("/tasks", json={"type": "echo"}, headers={"Prefer": "respond-async, wait=1"})
    assert answer.status_code == 202
    assert answer.json()["state"] == "queued"
    answer = await api.http.get(answer.headers["Location"], params={"wait": 0.01})
    assert (answer.status_code, answer.json()["state"]) == (200, "queued")


async def test_a_key_whose_task_is_forgotten_is_still_a_replay(open_api: Open) -> None:
    task = {"type": "echo", "idempotency_key": "order-1"}
    async with open_api(result_ttl_ms=0) as api:
        id = await api.submit(**task)
        await api.http.post(f"/tasks/{id}/cancel")
        assert await api.broker.forget() == 1
        for headers in {}, {"Prefer": "wait=2"}:
            again = await api.http.post("/tasks", json=task, headers=headers)
            assert (again.status_code, again.json()) == (200, {"id": id, "state": None, "created": False})
            assert again.headers["Location"] == f"/tasks/{id}"


async def test_a_preference_nobody_understands_is_ignored(api: Api) -> None:
    for preference in ("wait", "wait=soon", "wait=-1", "handling=lenient"):
        answer = await api.http.post("/tasks", json={"type": "echo"}, headers={"Prefer": preference})
        assert "Preference-Applied" not in answer.headers


async def test_an_unknown_task_is_not_found(api: Api) -> None:
    for method, path in (
        ("GET", "/tasks/none"),
        ("POST", "/tasks/none/cancel"),
        ("POST", "/tasks/none/cancel?wait=1"),
        ("POST", "/tasks/none/run-now"),
        ("POST", "/dlq/none/redrive"),
        ("DELETE", "/dlq/none"),
    ):
        answer = await api.http.request(method, path)
        assert answer.status_code == 404
        assert answer.json()["type"] == "/problems/task-not-found"


async def test_cancelling_a_waiting_task_ends_it(api: Api) -> None:
    id = await api.submit()
    answer = await api.http.post(f"/tasks/{id}/cancel")
    assert (answer.status_code, answer.json()) == (200, {"id": id, "state": "cancelled"})
    again = await api.http.post(f"/tasks/{id}/cancel")
    assert (again.status_code, again.json()) == (200, {"id": id, "state": "cancelled"})
    assert (await api.http.get(f"/tasks/{id}")).json()["cancel_cause"] == "user"


async def test_cancelling_a_running_task_asks_its_worker(api: Api) -> None:
    id = await api.submit()
    [lease] = await api.claim()
    answer = await api.http.post(f"/tasks/{id}/cancel")
    assert (answer.status_code, answer.json()) == (202, {"id": id, "state": "cancelling"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(api.settle, lease, RetryIn(5.0, "exception"))
        answer = await api.http.post(f"/tasks/{id}/cancel", params={"wait": 10})
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")


async def test_the_time_since_a_running_task_was_asked_to_stop_goes_on(api: Api) -> None:
    id = await api.submit()
    await api.claim()
    before = (await api.http.get(f"/tasks/{id}")).json()["timeline"]
    assert before["cancelling"] == 0
    await api.http.post(f"/tasks/{id}/cancel")
    with trio.fail_after(10):
        while (now := (await api.http.get(f"/tasks/{id}")).json()["timeline"])["cancelling"] < 0.02:
            await trio.sleep(0.01)
    with trio.fail_after(10):
        while (later := (await api.http.get(f"/tasks/{id}")).json()["timeline"])["cancelling"] <= now["cancelling"]:
            await trio.sleep(0.01)
    assert later["running"] == now["running"] >= before["running"]


async def test_run_now_is_for_tasks_that_wait_for_a_time(api: Api) -> None:
    id = await api.submit(delay_seconds=600)
    answer = await api.http.post(f"/tasks/{id}/run-now")
    assert (answer.status_code, answer.json()) == (200, {"id": id, "state": "queued"})
    again = await api.http.post(f"/tasks/{id}/run-now")
    assert again.status_code == 409
    assert again.json()["type"] == "/problems/invalid-transition"
    assert "queued" in again.json()["detail"]


async def test_a_listing_is_filtered_and_paged(api: Api) -> None:
    wanted = {await api.submit("a", tags=["x"]) for _ in range(5)}
    await api.submit("a")
    await api.submit("b", tags=["x"], delay_seconds=60)
    found: list[str] = []
    query = {"type": "a", "tag": "x", "state": "queued", "priority": "default", "limit": "2"}
    while True:
        page = (await api.http.get("/tasks", params=query)).json()
        found += [task["id"] for task in page["tasks"]]
        if page["next_page_token"] is None:
            break
        query["page_token"] = page["next_page_token"]
    assert sorted(found) == sorted(wanted)
    assert len((await api.http.get("/tasks")).json()["tasks"]) == 7


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("stat=dead", "/stat"),
        ("state=gone", "/state"),
        ("limit=0", "/limit"),
        ("limit=many", "/limit"),
        ("limit=1&limit=2", "/limit"),
        ("page_token=none", "/page_token"),
        ("priority=urgent", "/priority"),
        ("priority=", "/priority"),
    ],
)
async def test_a_wrong_query_is_named(api: Api, query: str, pointer: str) -> None:
    answer = await api.http.get(f"/tasks?{query}")
    assert answer.status_code == 422
    assert answer.json()["pointer"] == pointer


async def test_what_a_query_may_ask_for_is_said(api: Api) -> None:
    answer = await api.http.get("/tasks?state=gone")
    assert set(answer.json()["detail"].removeprefix("one of ").split(", ")) == set(State)
    for answer in (
        await api.http.get("/tasks?priority=urgent"),
        await api.http.get("/dlq?priority=urgent"),
        await api.http.post("/dlq/redrive", json={"priority": "urgent"}),
    ):
        assert (answer.status_code, answer.json()["pointer"]) == (422, "/priority")
        assert answer.json()["detail"] == "one of high, default, low"


async def test_every_answer_is_told_by_its_route(api: Api) -> None:
    id = await api.submit()
    await api.http.get(f"/tasks/{id}")
    await api.http.get("/nowhere/at-all")
    await api.http.request("BREW", "/tasks")
    told = [(e.method, e.route, e.status) for e in api.events if isinstance(e, HttpAnswered)]
    assert told == [
        ("POST", "/tasks", 202),
        ("GET", "/tasks/{task_id}", 200),
        ("GET", "unmatched", 404),
        ("_OTHER", "unmatched", 405),
    ]
