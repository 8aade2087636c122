"""What Prometheus reads: exact names, labels and bounds, in every format it may ask for."""

import gzip
import shutil
import subprocess
import sys

import pytest
import trio
from opentelemetry.metrics import Observation
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from taskward.events import Audited, BrokerCalled, HttpAnswered, SlotsChanged, TasksSubmitted
from taskward.policy.retry import RetryIn
from taskward.telemetry.exposition import Exposition
from taskward.telemetry.instruments import INSTRUMENTS
from taskward.telemetry.tracing import Span

from .given import ERROR, FAILED, lease, metrics, sample, settled, started

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
FORMATS = [
    ("", "text/plain; version=0.0.4; charset=utf-8"),
    ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "text/plain; version=0.0.4; charset=utf-8"),
    (
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75",
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
    ),
    (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.4",
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
    ),
]

pytestmark = pytest.mark.usefixtures("path")

SPAN = Span(0x0AF7651916CD43DD8448EB211C80319C, 0x00F067AA0BA902B7)


def busy(role="worker", **kwargs):
    """A process that has seen something of everything."""
    given = metrics(role, **kwargs)
    for event in (
        sample(),
        SlotsChanged(1, 10),
        started(),
        settled(span=SPAN),
        settled(FAILED, RetryIn(1.0, "exception", ERROR), held=lease("email.send", priority="high")),
        BrokerCalled("step", 0.002),
        TasksSubmitted("high", 2, 1, 300),
        HttpAnswered("POST", "/tasks", 202, 0.004),
        Audited({"two_places": 1}),
    ):
        given.observe(event)
    return given


async def render(given, accept="", accept_encoding=""):
    body, headers = await Exposition(given.registry).render(accept=accept, accept_encoding=accept_encoding)
    return body.decode() if "Content-Encoding" not in headers else body, headers


@pytest.mark.parametrize(("accept", "content_type"), FORMATS)
async def test_the_content_type_is_exactly_what_was_asked_for(accept, content_type):
    text, headers = await render(busy(), accept)
    assert headers == {"Content-Type": content_type}
    assert text.endswith("# EOF\n") == ("openmetrics" in content_type)


@pytest.mark.parametrize("role", ["api", "worker"])
@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_every_instrument_of_the_process_is_there_and_nothing_else(role, accept):
    text, _ = await render(busy(role), accept)
    families = list((parse_openmetrics if accept else parse_text)(text))
    own = {"target", "target_info"}
    found = {f.name: f for f in families if not f.name.startswith(("process_", "python_")) and f.name not in own}
    expected = {i.name.removesuffix("_total") if i.kind == "counter" else i.name: i for i in INSTRUMENTS}
    assert set(found) == {name for name, i in expected.items() if role in i.roles}
    for name, family in found.items():
        i = expected[name]
        assert (family.type, family.documentation) == (i.kind, i.help)
        for one in family.samples:
            assert set(one.labels) - {"le"} == set(i.labels)
            assert one.name in i.series


async def test_the_documented_bounds_are_there_as_text():
    text, _ = await render(busy())
    for bound in ("0.01", "0.5", "1.0", "30.0", "+Inf"):
        assert f'task_run_seconds_bucket{{le="{bound}",type="echo"}} ' in text
    assert 'enqueue_to_start_seconds_bucket{le="1800.0",priority="default"} 1.0\n' in text
    assert 'task_run_seconds_count{type="echo"} 1.0\n' in text
    assert 'task_run_seconds_sum{type="echo"} 0.3\n' in text


async def test_samples_say_what_was_counted():
    text, _ = await render(busy())
    for line in (
        'queue_depth{priority="high"} 3.0',
        "processing_inflight 5.0",
        'tasks_succeeded_total{priority="default",type="echo"} 1.0',
        'tasks_failed_total{priority="high",type="email.send"} 1.0',
        'tasks_failed_total{priority="low",type="unknown"} 0.0',
        'invariant_violations{kind="stale_record"} 0.0',
    ):
        assert f"{line}\n" in text
    assert "otel_scope" not in text
    target = (
        'target_info{service_instance_id="host:1",service_name="taskward-worker",service_version="1.2.3",telemetry_sdk'
    )
    assert target in text
    assert "process_start_time_seconds " in text
    assert "python_gc_collections_total{" in text
    assert "python_info{" in text


async def test_exemplars_are_shown_where_the_format_has_them():
    text, _ = await render(busy(current_span=lambda: SPAN), OPENMETRICS)
    ids = '{span_id="00f067aa0ba902b7",trace_id="0af7651916cd43dd8448eb211c80319c"}'
    assert f'task_run_seconds_bucket{{le="0.5",type="echo"}} 1.0 # {ids} 0.3 ' in text
    assert f'enqueue_to_start_seconds_bucket{{le="0.25",priority="default"}} 1.0 # {ids} 0.2 ' in text
    plain, _ = await render(busy(current_span=lambda: SPAN))
    assert "trace_id" not in plain


async def test_an_exemplar_is_still_there_for_the_second_scraper():
    exposition = Exposition(busy().registry)
    first, second = [await exposition.render(accept=OPENMETRICS, accept_encoding="") for _ in range(2)]
    assert first[0].count(b"trace_id") == second[0].count(b"trace_id") == 1


async def test_gzip_is_used_when_it_is_asked_for():
    body, headers = await render(busy(), accept_encoding="deflate, gzip;q=1.0")
    assert headers["Content-Encoding"] == "gzip"
    assert b"queue_depth" in gzip.decompress(body)
    _, headers = await render(busy(), accept_encoding="br")
    assert "Content-Encoding" not in headers


async def test_a_newer_exemplar_takes_the_place_of_an_older_one():
    given = busy()
    await render(given, OPENMETRICS)
    given.observe(settled(seconds=0.31, span=Span(5, 6)))
    text, _ = await render(given, OPENMETRICS)
    ids = f'{{span_id="{6:016x}",trace_id="{5:032x}"}}'
    assert f'task_run_seconds_bucket{{le="0.5",type="echo"}} 2.0 # {ids} 0.31 ' in text
    assert text.count("trace_id") == 1


async def test_the_filter_of_exemplars_is_the_standard_one(monkeypatch):
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "always_off")
    text, _ = await render(busy(), OPENMETRICS)
    assert "trace_id" not in text


async def test_an_application_adds_instruments_of_its_own():
    given = metrics()
    given.meter.create_counter("thumbnails", unit="{thumbnail}", description="Made.").add(2, {"format": "webp"})
    given.meter.create_histogram("thumbnail_pixels", description="Size.").record(640.0)
    given.meter.create_observable_gauge("cameras", [lambda _: [Observation(3)]], description="Seen.")
    text, _ = await render(given)
    assert 'thumbnails_total{format="webp"} 2.0\n' in text
    assert "thumbnail_pixels_sum 640.0\n" in text
    assert "cameras 3.0\n" in text


async def test_a_sdk_that_is_switched_off_shows_nothing_of_ours(monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    text, _ = await render(busy())
    assert "task_run_seconds" not in text
    assert "process_start_time_seconds " in text


async def test_scrapes_from_threads_do_not_meet():
    given = busy()
    families = []

    def scrape():
        for _ in range(20):
            families.append([family.name for family in given.registry.collect()])

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        async with trio.open_nursery() as scrapers:
            for _ in range(4):
                scrapers.start_soon(trio.to_thread.run_sync, scrape)
    finally:
        sys.setswitchinterval(interval)
    assert len(families) == 80
    assert all(names == families[0] and len(names) == len(set(names)) for names in families)


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_scrapes_at_the_same_time_do_not_disturb_one_another(accept, nursery):
    exposition, texts = Exposition(busy().registry), []

    async def scrape():
        body, _ = await exposition.render(accept=accept, accept_encoding="")
        texts.append(body.decode())

    async with trio.open_nursery() as scrapers:
        for _ in range(8):
            scrapers.start_soon(scrape)
    for text in texts:
        assert text.count("# TYPE task_run_seconds histogram\n") == 1
        assert text.count('queue_depth{priority="high"} 3.0\n') == 1


async def test_one_scrape_shows_one_moment():
    """However long rendering takes, the numbers in it belong together."""
    given = busy()
    exposition = Exposition(given.registry)

    async def keep_counting():
        while True:
            given.observe(settled())
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_counting)
        for _ in range(5):
            body, _ = await exposition.render(accept="", accept_encoding="")
            samples = {(s.name, s.labels.get("type")): s.value for f in parse_text(body.decode()) for s in f.samples
                       if s.labels.get("priority", "default") == "default"}  # fmt: skip
            assert samples["tasks_succeeded_total", "echo"] == samples["task_run_seconds_count", "echo"] > 0
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("role", ["api", "worker"])
async def test_promtool_finds_nothing_to_say(role):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    text, _ = await render(busy(role))
    checked = await trio.to_thread.run_sync(
        lambda: subprocess.run([promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    )
    assert checked.stdout + checked.stderr == ""
