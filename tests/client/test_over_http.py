"""The blocking client, over real HTTP."""

import contextlib
import http.server
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import msgspec
import pytest
import trio

from taskward.api.auth import new_token
from taskward.broker.embedded import free_port
from taskward.client import Client
from taskward.client.fields import Item
from taskward.client.view import view
from taskward.errors import (
    BrokerUnavailable,
    ConfigError,
    Conflict,
    InvalidTask,
    QueueFull,
    TaskNotFound,
    TaskTooLarge,
    TaskwardError,
    UnreadableBody,
)
from taskward.policy.retry import Complete
from taskward.task import Spec, State, Submitted, Task
from tests.api.conftest import Api, Open


async def in_thread(work: "partial[None]") -> None:
    await trio.to_thread.run_sync(work)


async def test_a_task_goes_in_and_is_seen_waited_for_and_cancelled(api: Api) -> None:
    def use() -> None:
        with Client(api.url) as client:
            submitted = client.submit("echo", {"a": 1}, priority="high", delay_seconds=60, tags=["x"])
            assert submitted.created
            task = client.get(submitted.id)
            assert (task.payload, task.priority, task.state) == ({"a": 1}, "high", State.SCHEDULED)
            assert client.wait(submitted.id, seconds=0.01).state is State.SCHEDULED
            assert client.cancel(submitted.id) is State.CANCELLED
            assert client.wait(submitted.id, seconds=10).terminal

    await in_thread(partial(use))
    assert len({event.status for event in api.answered}) == 2


async def test_many_go_in_together(api: Api) -> None:
    def use() -> None:
        with Client(api.url) as client:
            answers = client.submit_many([{"type": "echo", "payload": n} for n in range(1000)])
            assert all(getattr(answer, "created", False) for answer in answers)
            mixed = client.submit_many([{"type": "echo", "id": "a"}, {"type": "x", "id": "a"}, {"type": ""}])
            assert [type(answer).__name__ for answer in mixed] == ["Submitted", "Conflict", "InvalidTask"]
            assert getattr(mixed[2], "pointer", "") == "/type"

    await in_thread(partial(use))
    assert await api.stored() == 1001


async def test_large_ones_go_in_several_requests(api: Api) -> None:
    def use() -> None:
        with Client(api.url) as client:
            answers = client.submit_many([{"type": "echo", "payload": "x" * 250_000}] * 40)
            assert [getattr(answer, "created", False) for answer in answers] == [True] * 40
            assert client.submit_many([]) == []

    await in_thread(partial(use))
    assert [event.status for event in api.answered] == [200] * 3


async def test_problems_come_as_the_errors_they_are(open_api: Open) -> None:
    def use() -> None:
        with Client(api.url) as client:
            client.submit("echo", id="a")
            with pytest.raises(InvalidTask) as invalid:
                client.submit("echo", priority="urgent")
            assert invalid.value.pointer == "/priority"
            with pytest.raises(Conflict):
                client.submit("other", id="a")
            with pytest.raises(TaskTooLarge):
                client.submit("echo", "x" * 300_000)
            with pytest.raises(UnreadableBody):
                client.submit("echo", 2**70)
            with pytest.raises(TaskNotFound):
                client.get("none")
            with pytest.raises(QueueFull) as full:
                client.submit("echo")
            assert 1 <= full.value.retry_after <= 60

    async with open_api(max_queue_depth=1) as api:
        await in_thread(partial(use))


async def test_a_token_is_shown(open_api: Open, tmp_path: Path) -> None:
    token, digest = new_token()
    entry = {"name": "me", "sha256": digest, "scopes": ["submit"]}
    (tmp_path / "tokens.json").write_text(json.dumps({"tokens": [entry]}))

    def use() -> None:
        with Client(api.url, token=token) as client:
            assert client.submit("echo").created
            with pytest.raises(TaskwardError, match="lacks the scope read"):
                client.get("x")
        with Client(api.url) as client, pytest.raises(TaskwardError, match="bearer token"):
            client.submit("echo")

    async with open_api(api_tokens_file=str(tmp_path / "tokens.json")) as api:
        await in_thread(partial(use))


async def test_a_task_whose_answer_was_lost_is_submitted_once(api: Api) -> None:
    def use() -> None:
        with losing_first_answer(api.port) as port, Client(f"http://127.0.0.1:{port}") as client:
            assert client.get(client.submit("echo").id).type == "echo"

    await in_thread(partial(use))
    assert await api.stored() == 1
    assert [event.status for event in api.answered if event.route == "/tasks"] == [202, 200]


async def test_parent_and_children_each_get_their_own_answers(api: Api) -> None:
    def use() -> None:
        with Client(api.url) as client:
            client.submit("echo", id="parent")
            children = [os.fork() or in_child(partial(ask_for_own, client, f"child{n}")) for n in range(2)]
            for _ in range(100):
                assert client.submit("echo", id="parent").id == "parent"
            assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
            kept = client._connection.sock
            assert client.get("parent").id == "parent"
            assert kept is not None
            assert client._connection.sock is kept  # no child has shut it

    await in_thread(partial(use))


def ask_for_own(client: Client, id: str) -> None:
    for _ in range(100):
        assert client.submit("echo", id=id).id == id
    client.close()


def in_child(work: Callable[[], None]) -> int:
    """Nothing of the tests may go on in a child."""
    try:
        work()
    except BaseException:  # noqa: BLE001 - the parent is told by the exit code
        os._exit(1)
    os._exit(0)


async def test_a_key_that_outlives_its_task_is_a_replay(open_api: Open) -> None:
    def submit() -> None:
        with Client(api.url) as client:
            answers.append(client.submit("echo", id=None, idempotency_key="k"))  # type: ignore[arg-type]

    answers: list[Submitted] = []
    async with open_api(result_ttl_ms=0) as api:
        await in_thread(partial(submit))
        await api.broker.cancel(answers[0].id, cause="user")
        assert await api.broker.forget() == 1
        await in_thread(partial(submit))
    assert answers == [Submitted(answers[0].id, True), Submitted(answers[0].id, False)]


async def test_a_wait_goes_on_over_a_restart_of_the_api(open_api: Open) -> None:
    states: list[State] = []
    answered = trio.Event()

    def use() -> None:
        with Client(f"http://127.0.0.1:{port}") as client:
            states.append(client.wait("a", seconds=30).state)

    async def wait() -> None:
        await in_thread(partial(use))
        answered.set()

    port = free_port()
    async with trio.open_nursery() as nursery:
        async with open_api(api_addr=f"127.0.0.1:{port}") as api:
            await api.submit(id="a")
            [lease] = await api.claim()
            nursery.start_soon(wait)
            await trio.sleep(0.1)  # so that it waits at this one; it would find the next one too
        async with open_api(api_addr=f"127.0.0.1:{port}") as api:
            assert states == []
            await api.settle(lease, Complete(b"1"))
            with trio.fail_after(20):
                await answered.wait()
    assert states == [State.SUCCEEDED]


def test_a_wait_whose_api_answers_early_asks_again_but_not_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    with Client() as client:

        def answer(method: str, path: str, _body: bytes | None) -> tuple[int, bytes]:
            assert method == "GET"
            asked.append(float(path.rpartition("=")[2]))
            return 200, queued

        task = Task(id="a", spec=Spec(type="echo"), state=State.QUEUED, created_ms=0)
        queued = msgspec.json.encode(view(task, 0))
        monkeypatch.setattr(client, "_ask_once", answer)
        began = time.monotonic()
        assert client.wait("a", seconds=0.5).state is State.QUEUED
        assert time.monotonic() >= began + 0.5
    assert asked[0] == pytest.approx(0.5, abs=0.01)
    assert 2 <= len(asked) <= 6
    assert sorted(asked, reverse=True) == asked


async def test_an_outage_is_the_answer_of_what_was_not_stored(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def use() -> None:
        with Client(api.url, patience=0) as client:
            ask_once, left = client._ask_once, 2

            def ask(method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
                nonlocal left
                left -= 1
                if left < 0:
                    raise BrokerUnavailable
                return ask_once(method, path, body)

            monkeypatch.setattr(client, "_ask_once", ask)
            answers = client.submit_many(items)
            assert [type(answer) for answer in answers] == [Submitted] * 1024 + [BrokerUnavailable] * 476
            with pytest.raises(BrokerUnavailable):
                client.submit_many(items)

    items: list[Item] = [{"type": "echo"}] * 1500
    await in_thread(partial(use))
    assert await api.stored() == 1024


async def test_a_part_that_the_api_finds_too_long_is_sent_in_shorter_ones(open_api: Open) -> None:
    def use() -> None:
        with Client(api.url) as client:
            answers = client.submit_many([{"type": "echo", "payload": "x" * 500}] * 9 + [{"type": "x" * 5000}])
            assert [type(answer) for answer in answers] == [Submitted] * 9 + [TaskTooLarge]

    async with open_api(max_body_bytes=2000, max_payload_bytes=1000) as api:
        await in_thread(partial(use))
        assert await api.stored() == 9


def test_nobody_there_is_told_after_the_patience() -> None:
    with Client(f"http://127.0.0.1:{free_port()}", patience=0.15) as client, pytest.raises(BrokerUnavailable):
        client.submit("echo")


def test_what_is_no_address_is_refused() -> None:
    for url in ("127.0.0.1:8080", "ftp://x", "http://", "http://h:port", "http://[::1"):
        with pytest.raises(ConfigError):
            Client(url)


@pytest.mark.parametrize("token", ["tw_a\nb", "tw_\u20ac"])
def test_what_is_no_token_is_not_shown(token: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Client(token=token)
    assert "tw_" not in str(caught.value)
    Client(token="tw_a\n")


@pytest.mark.parametrize("id", ["", "a/b"])
def test_what_is_no_id_is_not_found(id: str) -> None:
    with Client() as client:
        for ask in (client.get, client.cancel, partial(client.wait, seconds=1)):
            with pytest.raises(TaskNotFound):
                ask(id)


@pytest.mark.parametrize("answer", [(302, b""), (200, b"<html>"), (202, b"{}"), (200, b'{"results": []}')])
def test_what_is_no_answer_of_ours_is_told(answer: tuple[int, bytes]) -> None:
    with answering(*answer) as port, Client(f"http://127.0.0.1:{port}", patience=0) as client:
        for ask in (lambda: client.submit("echo"), lambda: client.submit_many([Item(type="echo")])):
            with pytest.raises(TaskwardError):
                ask()


@contextlib.contextmanager
def answering(status: int, body: bytes) -> Iterator[int]:
    """A server that always says the same. -> its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextlib.contextmanager
def losing_first_answer(port: int) -> Iterator[int]:
    """A proxy to `port` that ends the first connection where the answer should come. -> its own port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                for n in count():
                    ours, _ = listener.accept()
                    theirs = socket.create_connection(("127.0.0.1", port))
                    threading.Thread(target=copy, args=(ours, theirs)).start()
                    if n == 0:
                        theirs.recv(1)
                        ours.shutdown(socket.SHUT_RDWR)
                    else:
                        threading.Thread(target=copy, args=(theirs, ours)).start()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def copy(one: socket.socket, other: socket.socket) -> None:
    """Until either end is gone."""
    with one, other, contextlib.suppress(OSError):
        while data := one.recv(65_536):
            other.sendall(data)
