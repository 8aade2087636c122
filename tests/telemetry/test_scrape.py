"""The scrape port, asked through a socket."""

import time
from functools import partial

import msgspec
import pytest
import trio

from taskward.http11 import Limits
from taskward.telemetry.scrape import LIMITS, serve_scrapes

from .client import connected
from .given import StillClock, metrics, sample, settled

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


@pytest.fixture
def serving(nursery):
    async def begin(given=None, ready=lambda: (True, {}), **kwargs):
        listeners = await nursery.start(
            partial(serve_scrapes, given or metrics(), host="127.0.0.1", port=0, ready=ready, **kwargs)
        )
        return listeners[0].socket.getsockname()[1]

    return begin


async def test_metrics_are_at_two_paths_whatever_the_query(serving):
    async with connected(await serving()) as client:
        for target in ("/metrics", "/", "/metrics?name[]=x"):
            answer = await client.get(target)
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert b"task_run_seconds_bucket" in answer.body


async def test_prometheus_gets_openmetrics_and_gzip(serving):
    async with connected(await serving()) as client:
        answer = await client.get("/metrics", Accept=PROMETHEUS_2, Accept_Encoding="gzip")
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.body.startswith(b"\x1f\x8b")


@pytest.mark.parametrize("version", ["1.x", "", "1.0.0; q=none", "9" * 5000])
async def test_a_version_that_is_none_gets_what_can_be_had(serving, version):
    async with connected(await serving()) as client:
        answer = await client.get("/metrics", Accept=f"application/openmetrics-text; version={version}")
        assert answer.status == 200
        assert b"task_run_seconds_bucket" in answer.body


async def test_head_is_get_without_its_body(serving):
    async with connected(await serving()) as client:
        answer = await client.get("/healthz", method="HEAD")
        assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "6", b"")
        assert (await client.get("/metrics", method="HEAD")).status == 200
        assert (await client.get("/healthz")).body == b"alive\n"


async def test_other_paths_and_methods_are_refused_on_a_connection_that_stays(serving):
    async with connected(await serving()) as client:
        assert (await client.get("/metric")).status == 404
        refused = await client.get("/metrics", method="POST")
        assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD")
        assert (await client.get("/metrics")).status == 200


async def test_a_body_is_not_taken(serving):
    async with connected(await serving()) as client:
        await client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
        assert (await client.answer()).status == 413


def not_ready():
    return False, {"redis": "no answer for 4 s", "draining": False}


@pytest.mark.parametrize(
    ("ready", "status", "body"),
    [
        (lambda: (True, {}), 200, {"ready": True, "reasons": {}}),
        (not_ready, 503, {"ready": False, "reasons": {"redis": "no answer for 4 s", "draining": False}}),
    ],
)
async def test_readiness_is_what_the_probe_says(serving, ready, status, body):
    async with connected(await serving(ready=ready)) as client:
        answer = await client.get("/readyz")
        assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json")
        assert msgspec.json.decode(answer.body) == body
        assert (await client.get("/healthz")).status == 200


async def test_counters_are_served_while_the_sample_is_stale(serving):
    clock = StillClock()
    given = metrics(clock=clock)
    given.observe(sample())
    async with connected(await serving(given)) as client:
        assert b'queue_depth{priority="high"} 3.0' in (await client.get("/metrics")).body
        clock.now += 60
        given.observe(settled())
        body = (await client.get("/metrics")).body
        assert b"queue_depth{" not in body
        assert b"\nprocessing_inflight " not in body
        assert b"metrics_sample_timestamp_seconds 1.7e+09" in body
        assert b'tasks_succeeded_total{priority="default",type="echo"} 1.0' in body


async def test_an_address_in_use_is_an_error(serving):
    port = await serving()
    with pytest.raises(OSError, match="in use"):
        await serve_scrapes(metrics(), host="127.0.0.1", port=port, ready=lambda: (True, {}))


async def test_every_interface_is_the_empty_host(nursery):
    listeners = await nursery.start(partial(serve_scrapes, metrics(), host="", port=0, ready=lambda: (True, {})))
    families = {listener.socket.getsockname()[0] for listener in listeners}
    assert "0.0.0.0" in families
    nursery.cancel_scope.cancel()


async def test_scrapes_are_answered_while_the_loop_is_busy(serving):
    """Tasks that leave the loop no rest: a thread would wait for seconds. bench/ has the times."""

    async def grind():
        while True:
            until = time.perf_counter() + 0.0001
            while time.perf_counter() < until:
                pass
            await trio.lowlevel.checkpoint()

    port = await serving()
    async with trio.open_nursery() as load:
        for _ in range(10):
            load.start_soon(grind)
        async with connected(port) as client:
            for _ in range(20):
                assert (await client.get("/metrics")).status == 200
        load.cancel_scope.cancel()


async def test_four_scrapers_at_once_each_get_everything(serving):
    port, bodies = await serving(), []

    async def scrape():
        async with connected(port) as client:
            for _ in range(5):
                bodies.append((await client.get("/metrics", Accept=PROMETHEUS_2)).body)

    async with trio.open_nursery() as scrapers:
        for _ in range(4):
            scrapers.start_soon(scrape)
    assert len(bodies) == 20
    assert {body.count(b"# TYPE task_run_seconds histogram\n") for body in bodies} == {1}
    assert all(body.endswith(b"# EOF\n") for body in bodies)


async def test_a_client_that_says_nothing_is_closed(serving):
    port = await serving(limits=Limits(idle_seconds=0.05))
    async with connected(port) as client:
        assert await client.ended()
    assert LIMITS.head_seconds < LIMITS.idle_seconds
