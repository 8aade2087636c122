"""The server: it is ready when it says so, stops cleanly, and tells of what it cannot do."""

import socket
from functools import partial

import httpx
import pytest
import trio
from quart import Response

from taskward.api.app import create_app
from taskward.api.auth import Scope
from taskward.api.render import respond
from taskward.api.routes import Route
from taskward.api.server import listen, run_api, serve_api
from taskward.api.service import Service
from taskward.broker.broker import Broker
from taskward.broker.connection import open_connection
from taskward.broker.embedded import free_port
from taskward.client import gateway
from taskward.config import Config
from taskward.errors import ConfigError
from taskward.events import BrokerCalled, OutageBegan, SampleFailed, ignore
from tests.api.conftest import Api, Open


async def test_it_lives_and_is_ready(api: Api) -> None:
    for path, status in (("/healthz", "ok"), ("/readyz", "ready")):
        answer = await api.http.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": status})
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Server" not in answer.headers


async def test_without_redis_it_lives_but_is_not_ready(open_api: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "PATIENCE_SECONDS", 0.0)
    async with (
        open_connection(f"redis://127.0.0.1:{free_port()}", name="tests") as nowhere,
        open_api(connection=nowhere) as api,
    ):
        assert (await api.http.get("/healthz")).status_code == 200
        for method, path in (("GET", "/readyz"), ("POST", "/tasks"), ("GET", "/tasks/x"), ("GET", "/workers")):
            answer = await api.http.request(method, path, json={"type": "echo"})
            assert answer.status_code == 503
            assert answer.json()["type"] == "/problems/unavailable"
            assert int(answer.headers["Retry-After"]) >= 1
        summary = (await api.http.get("/metrics/summary")).json()
        assert (summary["stale"], summary["sampled_at"], summary["processing_inflight"]) == (True, None, None)
        assert SampleFailed() in api.events
        assert [event.part for event in api.events if isinstance(event, OutageBegan)] == ["api"]  # not once a try


async def test_a_taken_port_is_one_clear_line(broker: Broker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"API_ADDR=127.0.0.1:{port}: cannot listen there"):
            await run_api(Config(api_addr=f"127.0.0.1:{port}"), broker, observe=ignore, stop=trio.Event())


async def test_a_stop_lets_requests_finish_and_ends_waits(api: Api) -> None:
    id = await api.submit()
    answers: list[httpx.Response] = []

    async def wait() -> None:
        answers.append(await api.http.get(f"/tasks/{id}", params={"wait": 60}))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await api.events.wait_for(lambda event: isinstance(event, BrokerCalled) and event.op == "get")
            api.stop.set()
    assert (answers[0].status_code, answers[0].json()["state"]) == (200, "queued")


async def test_a_bug_is_a_problem_without_its_secrets(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_service: Service) -> Response:
        raise RuntimeError("secret")

    service = Service.of(Config(), broker, observe=ignore)
    app = create_app(service, (Route("GET", "/broken", Scope.OPEN, broken),))
    answer = await app.test_client().get("/broken")
    assert (answer.status_code, answer.headers["Content-Type"]) == (500, "application/problem+json")
    problem = await answer.get_json(force=True)
    assert problem == {"type": "/problems/internal", "title": problem["title"], "status": 500}
    assert "RuntimeError: secret" in caplog.text


async def test_what_is_under_way_gets_its_grace_and_no_more(broker: Broker) -> None:
    begun = trio.Event()

    async def endless(_service: Service) -> Response:
        begun.set()
        await trio.sleep_forever()
        return respond(None)

    service = Service.of(Config(), broker, observe=ignore)
    app = create_app(service, (Route("GET", "/endless", Scope.OPEN, endless),))
    stop = trio.Event()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            serve = partial(serve_api, app, listen("127.0.0.1", 0), service=service, stop=stop, grace=0.05)
            [url] = await nursery.start(serve)

            async def ask() -> None:
                with pytest.raises(httpx.RemoteProtocolError):
                    await httpx.AsyncClient(base_url=url).get("/endless")

            nursery.start_soon(ask)
            await begun.wait()
            stop.set()


async def test_a_stop_does_not_wait_for_a_client_that_reads_nothing_and_has_left(open_api: Open) -> None:
    """It sends a stream until the API, which cannot answer, takes no more; then it is gone."""
    line = b'{"type":"noop","payload":"' + b"x" * 100 + b'"}\n'
    chunk = line * 500
    with trio.fail_after(30):
        async with open_api(shutdown_grace_ms=100) as api:
            stream = await trio.open_tcp_stream("127.0.0.1", api.http.base_url.port or 0)
            head = b"POST /tasks/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
            await stream.send_all(head + b"Transfer-Encoding: chunked\r\n\r\n")
            stuck = False
            while not stuck:
                with trio.move_on_after(1) as sending:
                    await stream.send_all(b"%x\r\n" % len(chunk) + chunk + b"\r\n")
                stuck = sending.cancelled_caught
            await trio.aclose_forcefully(stream)
            api.stop.set()


def test_every_interface_is_one_socket() -> None:
    with listen("", 0) as listening:
        port = listening.getsockname()[1]
        for address in ("127.0.0.1", "::1") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
            socket.create_connection((address, port), timeout=5).close()
