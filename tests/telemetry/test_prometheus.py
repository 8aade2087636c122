"""A real Prometheus scrapes the port, and keeps the exemplars."""

import json
import shutil
from functools import partial
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import trio

from taskward.telemetry.scrape import serve_scrapes
from taskward.telemetry.tracing import Span

from .given import lease, metrics, sample, settled, started

SPAN = Span(0x0AF7651916CD43DD8448EB211C80319C, 0x00F067AA0BA902B7)
CONFIG = """
global: {{scrape_interval: 200ms}}
scrape_configs:
  - job_name: worker
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""

needs_prometheus = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")


class Prometheus:
    def __init__(self, port):
        self._url = f"http://127.0.0.1:{port}/api/v1"

    async def answer(self, path, **parameters):
        """What it answers once that is not empty."""
        url = f"{self._url}/{path}?{urlencode(parameters)}"
        with trio.fail_after(30):
            while not (data := await trio.to_thread.run_sync(_data, url)):
                await trio.sleep(0.05)  # another process: there is nothing to await
        return data


def _data(url):
    try:
        with urlopen(url, timeout=5) as response:
            data = json.load(response)["data"]
    except OSError:
        return None  # it has not begun to listen
    return data["result"] if isinstance(data, dict) else data


@pytest.fixture
async def prometheus(tmp_path, free_port, nursery):
    async def begin(given):
        listeners = await nursery.start(
            partial(serve_scrapes, given, host="127.0.0.1", port=0, ready=lambda: (True, {}))
        )
        config = tmp_path / "prometheus.yml"
        config.write_text(CONFIG.format(port=listeners[0].socket.getsockname()[1]))
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
        command += [f"--web.listen-address=127.0.0.1:{free_port}", "--enable-feature=exemplar-storage"]
        with (tmp_path / "log").open("wb") as log:
            begun.append(await trio.lowlevel.open_process(command, stdout=log, stderr=log))
        return Prometheus(free_port)

    begun = []
    yield begin
    for process in begun:
        process.kill()
        await process.wait()


@needs_prometheus
async def test_prometheus_stores_samples_and_exemplars(prometheus):
    given = metrics(current_span=lambda: SPAN)
    for event in (sample(), started(waited=0.2), settled(seconds=0.3, span=SPAN), settled(held=lease(priority="low"))):
        given.observe(event)
    server = await prometheus(given)
    (depth,) = await server.answer("query", query='queue_depth{priority="high"}')
    assert depth["value"][1] == "3"
    assert set(depth["metric"]) == {"__name__", "job", "instance", "priority"}
    ids = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "00f067aa0ba902b7"}
    for name, value in (("task_run_seconds", "0.3"), ("enqueue_to_start_seconds", "0.2")):
        (series,) = await server.answer("query_exemplars", query=f"{name}_bucket", start=0, end=4e9)
        assert [(e["labels"], e["value"]) for e in series["exemplars"]] == [(ids, value)]
