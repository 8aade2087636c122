"""The client for programs without Trio: the same answers and errors, from any thread, and nothing left behind."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
import redis

from taskward.broker import broker
from taskward.broker.keys import Keys
from taskward.client import BlockingClient, local, open_blocking_client
from taskward.client import blocking as client_module
from taskward.client.fields import Item
from taskward.config import Config
from taskward.errors import BrokerUnavailable, ConfigError, Conflict, InvalidTask, QueueFull, TaskNotFound
from taskward.task import State, Submitted


@pytest.fixture
def blocking(redis_url: str, queue: str) -> Iterator[BlockingClient]:
    with open_blocking_client(redis_url, queue=queue) as blocking:
        yield blocking


def test_a_task_goes_in_is_seen_and_cancelled(blocking: BlockingClient) -> None:
    submitted = blocking.submit("echo", {"a": 1}, tags=["x"])
    assert submitted.created
    assert blocking.get(submitted.id).payload == {"a": 1}
    assert blocking.wait(submitted.id, seconds=0.01).state is State.QUEUED
    assert blocking.cancel(submitted.id) is State.CANCELLED
    assert blocking.wait(submitted.id, seconds=5).terminal


def test_errors_are_those_of_the_async_client(blocking: BlockingClient) -> None:
    with pytest.raises(InvalidTask) as caught:
        blocking.submit("echo", priority="urgent")
    assert caught.value.pointer == "/priority"
    blocking.submit("echo", 1, id="a")
    with pytest.raises(Conflict):
        blocking.submit("echo", 2, id="a")
    with pytest.raises(TaskNotFound):
        blocking.get("nowhere")


def test_many_go_in_together(blocking: BlockingClient) -> None:
    items: list[Item] = [{"type": "echo", "payload": n} for n in range(1500)]
    answers = blocking.submit_many([*items, {"type": ""}])
    assert [type(answer) for answer in answers] == [Submitted] * 1500 + [InvalidTask]


def test_a_batch_is_first_in_first_out(blocking: BlockingClient, client: "redis.Redis", queue: str) -> None:
    client.script_flush()  # the parts that are under way both have to be sent again
    ids = [f"t{n}" for n in range(600)]
    blocking.submit_many([{"type": "echo", "id": id} for id in ids])
    assert in_line(client, queue) == ids


def test_parts_too_long_for_a_call_are_cut_further(
    blocking: BlockingClient, client: "redis.Redis", queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (broker, client_module):
        monkeypatch.setattr(module, "LARGEST_CALL", 5000)
    ids = [f"t{n}" for n in range(600)]
    answers = blocking.submit_many([{"type": "echo", "id": id, "payload": "x" * 100} for id in ids])
    assert [answer.id for answer in answers if isinstance(answer, Submitted)] == ids
    assert in_line(client, queue) == ids


def in_line(client: "redis.Redis", queue: str) -> list[str]:
    """The ids that wait, first first."""
    return client.zrange(Keys(queue, ["default"]).family("ready")[0], 0, -1)


@pytest.fixture
def at_third_part(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Has something done while a batch's first two parts are under way and its third is made."""

    def arrange(do: Callable[[], object]) -> None:
        seen = count()

        def parsed(*args: Any) -> Any:
            if next(seen) == 2:
                do()
            return local.parsed(*args)

        monkeypatch.setattr("taskward.client.blocking.parsed", parsed)

    return arrange


def test_a_batch_whose_connection_is_cut_goes_in_once_and_in_order(
    blocking: BlockingClient, client: "redis.Redis", queue: str, at_third_part: Callable[[Callable[[], object]], None]
) -> None:
    at_third_part(lambda: cut(client))
    ids = [f"t{n}" for n in range(600)]
    answers = blocking.submit_many([{"type": "echo", "id": id} for id in ids])
    assert all(isinstance(answer, Submitted) for answer in answers)
    assert in_line(client, queue) == ids


def test_a_batch_that_is_broken_off_leaves_no_reply_behind(
    blocking: BlockingClient, at_third_part: Callable[[Callable[[], object]], None]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    at_third_part(interrupt)
    with pytest.raises(KeyboardInterrupt):
        blocking.submit_many([{"type": "echo"}] * 600)
    submitted = blocking.submit("echo", id="after")
    assert submitted == Submitted("after", True)


def test_what_an_outage_has_kept_from_the_store_says_so(
    blocking: BlockingClient,
    client: "redis.Redis",
    queue: str,
    at_third_part: Callable[[Callable[[], object]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("taskward.client.blocking.PATIENCE_SECONDS", 0)
    at_third_part(lambda: client.config_set("min-replicas-to-write", 1))
    try:
        answers = blocking.submit_many([{"type": "echo"}] * 600 + [{"type": ""}])
        with pytest.raises(BrokerUnavailable):
            blocking.submit_many([{"type": "echo"}] * 300)
    finally:
        client.config_set("min-replicas-to-write", 0)
    accepted = [answer for answer in answers if isinstance(answer, Submitted)]
    assert set(client.hkeys(Keys(queue, ())("spec"))) == {answer.id for answer in accepted}
    assert [type(answer) for answer in answers[256:]] == [BrokerUnavailable] * 344 + [InvalidTask]


def test_threads_may_share_it(blocking: BlockingClient, client: "redis.Redis", queue: str) -> None:
    with ThreadPoolExecutor(16) as threads:
        ids = {answer.id for answer in threads.map(lambda n: blocking.submit("echo", n), range(400))}
    assert len(ids) == client.hlen(Keys(queue, ())("spec")) == 400


def test_it_starts_no_thread_and_leaves_no_connection(redis_url: str, queue: str, client: "redis.Redis") -> None:
    threads = set(threading.enumerate())
    with open_blocking_client(redis_url, queue=queue) as blocking:
        blocking.submit("echo")
        assert set(threading.enumerate()) <= threads
        assert connections(client) == 1
    give_up = time.monotonic() + 5
    while connections(client):  # the server reads of the end when it comes to it
        assert time.monotonic() < give_up
        time.sleep(0.01)


def connections(client: "redis.Redis") -> int:
    """Of blocking clients."""
    return sum(seen["name"] == "taskward-client" for seen in client.client_list())


def test_a_connection_that_was_cut_is_made_anew(blocking: BlockingClient, client: "redis.Redis") -> None:
    blocking.submit("echo")
    cut(client)
    assert blocking.submit("echo").created


def test_it_outlives_any_number_of_connections(blocking: BlockingClient, client: "redis.Redis", queue: str) -> None:
    for _ in range(120):
        blocking.submit("echo")
        cut(client)
    assert client.hlen(Keys(queue, ())("spec")) == 120


def cut(client: "redis.Redis") -> None:
    """Every connection of blocking clients."""
    for seen in client.client_list():
        if seen["name"] == "taskward-client":
            client.client_kill_filter(_id=seen["id"])


def test_the_scripts_may_be_flushed(blocking: BlockingClient, client: "redis.Redis") -> None:
    client.script_flush()
    submitted = blocking.submit("echo")
    client.script_flush()
    assert blocking.get(submitted.id).type == "echo"


def test_a_process_that_has_one_may_fork(blocking: BlockingClient, client: "redis.Redis", queue: str) -> None:
    blocking.submit("echo")
    child = os.fork()
    try:
        for _ in range(50):
            blocking.submit("echo")
    finally:
        if child == 0:
            os._exit(0)
    os.waitpid(child, 0)
    assert client.hlen(Keys(queue, ())("spec")) == 1 + 2 * 50


def test_one_that_no_priority_has_room_for_is_refused(redis_url: str, queue: str) -> None:
    with open_blocking_client(redis_url, config=Config(max_queue_depth=2), queue=queue) as blocking:
        answers = blocking.submit_many([{"type": "echo", "priority": "high"}] * 3)
        assert [type(answer) for answer in answers] == [Submitted, Submitted, QueueFull]
        with pytest.raises(QueueFull):
            blocking.submit("echo")


def test_an_end_is_waited_for(blocking: BlockingClient) -> None:
    submitted = blocking.submit("echo")
    with ThreadPoolExecutor(1) as threads:
        ended = threads.submit(blocking.wait, submitted.id, seconds=10)
        time.sleep(0.05)
        blocking.cancel(submitted.id)
        assert ended.result().state is State.CANCELLED


def test_an_error_of_the_block_comes_out_as_it_is(redis_url: str) -> None:
    with pytest.raises(ZeroDivisionError), open_blocking_client(redis_url):
        _ = 1 / 0


def test_a_url_that_is_none_and_a_server_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="REDIS_URL"), open_blocking_client("nonsense://"):
        pass
    with open_blocking_client("redis://127.0.0.1:1") as nowhere, pytest.raises(BrokerUnavailable):
        nowhere.submit("echo")
