"""The client for programs without Trio: the same answers and errors, from any thread, and nothing left behind."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
import trio

from taskward.broker.keys import Keys
from taskward.client import BlockingClient, open_blocking_client
from taskward.client.fields import Item
from taskward.errors import BrokerUnavailable, ConfigError, Conflict, InvalidTask, TaskNotFound
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


def test_threads_may_share_it(blocking: BlockingClient, client: "redis.Redis", queue: str) -> None:
    with ThreadPoolExecutor(16) as threads:
        ids = {answer.id for answer in threads.map(lambda n: blocking.submit("echo", n), range(400))}
    assert len(ids) == client.hlen(Keys(queue, ())("spec")) == 400


def test_it_leaves_no_thread_behind_and_cannot_be_used_again(redis_url: str, queue: str) -> None:
    before = set(threading.enumerate())
    with open_blocking_client(redis_url, queue=queue) as blocking:
        blocking.submit("echo")
    assert set(threading.enumerate()) <= before  # threads that were kept for others may end meanwhile
    with pytest.raises(trio.RunFinishedError):
        blocking.submit("echo")


def test_an_error_of_the_block_comes_out_as_it_is(redis_url: str) -> None:
    with pytest.raises(ZeroDivisionError), open_blocking_client(redis_url):
        _ = 1 / 0


def test_a_url_that_is_none_and_a_server_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="REDIS_URL"), open_blocking_client("nonsense://"):
        pass
    with open_blocking_client("redis://127.0.0.1:1") as nowhere, pytest.raises(BrokerUnavailable):
        nowhere.submit("echo")
