"""Tracing, where it is on: every request has a span, every new task is stored with a trace context."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from taskward.api.table import ROUTES
from taskward.telemetry.spans import Spans
from tests.api.conftest import Open

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Fake:
    """Traces that are written down. Every submission has another context, as in life."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str, int]] = []
        self._numbers = count(1)

    @contextmanager
    def request(self, method: str, route: str, headers: Mapping[str, str]) -> Iterator[Callable[[int], None]]:
        yield lambda status: self.requests.append((method, route, headers.get("traceparent", ""), status))

    def submitting(self, _priority: str) -> str:
        return f"00-{next(self._numbers):032x}-{1:016x}-01"


@pytest.mark.parametrize("headers", [{}, {"TE": "trailers"}], ids=["fast lane", "Quart"])
async def test_a_task_is_stored_with_the_context_of_its_submission(open_api: Open, headers: dict[str, str]) -> None:
    traces = Fake()
    async with open_api(traces=traces) as api:
        headers |= {"traceparent": GIVEN}
        answer = await api.http.post("/tasks", json={"type": "a", "id": "t"}, headers=headers)
        assert answer.status_code == 202
        # The same again has another context, and is a replay all the same.
        assert (await api.http.post("/tasks", json={"type": "a", "id": "t"}, headers=headers)).status_code == 200
        assert (await api.http.get("/tasks/t")).json()["headers"] == {"traceparent": f"00-{1:032x}-{1:016x}-01"}
        assert (await api.http.get("/tasks/unknown")).status_code == 404
    assert traces.requests == [
        ("POST", "/tasks", GIVEN, 202),
        ("POST", "/tasks", GIVEN, 200),
        ("GET", "/tasks/{task_id}", "", 200),
        ("GET", "/tasks/{task_id}", "", 404),
    ]


async def test_what_is_stored_is_the_span_of_the_submission_within_the_clients_trace(open_api: Open) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with open_api(traces=Spans(provider)) as api:
        headers = {"traceparent": GIVEN, "tracestate": "a=b", "TE": "trailers"}
        answer = await api.http.post("/tasks", json={"type": "a", "id": "t"}, headers=headers)
        assert answer.status_code == 202
        stored = (await api.http.get("/tasks/t")).json()["headers"]
    send, request, _look = exporter.get_finished_spans()
    assert (send.name, request.name) == ("send default", "POST /tasks")
    assert send.context is not None
    assert stored == {"traceparent": f"{GIVEN[:35]}-{send.context.span_id:016x}-01"}


async def test_every_route_answers_as_without(open_api: Open) -> None:
    paths = {route.path for route in ROUTES if route.method == "GET" and "{" not in route.path}
    async with open_api(traces=Fake()) as api:
        assert {path: (await api.http.get(path)).status_code for path in paths} == dict.fromkeys(paths, 200)


async def test_a_context_that_the_client_chose_stays(open_api: Open) -> None:
    async with open_api(traces=Fake()) as api:
        await api.submit(id="t", headers={"traceparent": GIVEN, "tenant": "blue"})
        assert (await api.http.get("/tasks/t")).json()["headers"] == {"tenant": "blue", "traceparent": GIVEN}


async def test_every_task_of_a_batch_has_a_context(open_api: Open) -> None:
    async with open_api(traces=Fake()) as api:
        batch = [{"type": "a", "id": "x"}, {"type": ""}, {"type": "a", "id": "y"}]
        assert (await api.http.post("/tasks/batch", json=batch)).status_code == 200
        contexts = [(await api.http.get(f"/tasks/{id}")).json()["headers"]["traceparent"] for id in ("x", "y")]
    assert len(set(contexts)) == 2
