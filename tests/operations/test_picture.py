"""grafana/picture: draws any dashboard the generator writes, with the versions the rest of the project names."""

import base64
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Thread
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from .files import COMPOSE, DASHBOARD, PANELS, ROOT, panel_exprs, text

PICTURE = ROOT / "grafana/picture"
LOCK = json.loads(text("grafana/picture/package-lock.json"))
PACKAGE = json.loads(text("grafana/picture/package.json"))

missing = [
    *([] if (PICTURE / "node_modules").is_dir() else ["npm ci has not been run in grafana/picture"]),
    *([] if shutil.which("chromium") else ["chromium is not installed"]),
]


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make", PICTURE / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_lock_names_versions_and_hashes_but_no_place():
    packages = {path: package for path, package in LOCK["packages"].items() if path}
    assert packages
    assert not [path for path, package in packages.items() if "resolved" in package]
    assert not [path for path, package in packages.items() if "integrity" not in package]
    for kind in ("dependencies", "devDependencies"):
        assert LOCK["packages"][""][kind] == PACKAGE[kind]


def test_versions_are_exact_and_those_of_the_grafana_that_is_run():
    versions = PACKAGE["dependencies"] | PACKAGE["devDependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions.values())
    grafana = COMPOSE["services"]["grafana"]["image"].partition(":")[2]
    assert {versions[name] for name in ("@grafana/ui", "@grafana/data", "@grafana/schema")} == {grafana}


def test_every_kind_of_panel_and_answer_can_be_drawn():
    kinds = re.search(r"KINDS = \{(.*?)}", text("grafana/picture/src/panels.jsx"))[1]
    assert {panel["type"] for panel in PANELS} <= set(re.findall(r"(\w+):", kinds))
    formats = {target["format"] for panel in PANELS for target in panel["targets"]}
    assert formats <= set(re.findall(r"^  (\w+): \(target", text("grafana/picture/src/data.js"), re.MULTILINE))


def test_no_variable_of_grafana_is_left_in_a_query(make):
    for _, expr in panel_exprs():
        assert "$" not in make.interpolated(expr, 2)


def test_the_window_is_as_high_as_the_page(make):
    app = text("grafana/picture/src/app.jsx")
    head, cell, gap, width = (int(re.search(rf"{name} = (\d+);", app)[1]) for name in ("HEAD", "CELL", "GAP", "WIDTH"))
    lowest = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in DASHBOARD["panels"])
    assert make.height_of(DASHBOARD) == head + lowest * (cell + gap) + gap
    assert width == make.WIDTH


@pytest.mark.skipif(bool(missing), reason=" and ".join(missing))
def test_a_picture_is_drawn_in_which_there_is_something_to_see(tmp_path, make):
    out = tmp_path / "picture.b64"
    with prometheus() as url:
        command = [sys.executable, PICTURE / "make.py", "--prometheus", url, "--minutes", "5", "--out", out]
        subprocess.run(command, check=True, timeout=240)
    picture = Image.open(BytesIO(base64.b64decode(out.read_bytes()))).convert("RGB")
    assert picture.size == (make.WIDTH, make.height_of(DASHBOARD))
    for panel in PANELS:
        assert len(colors(picture, panel)) > 4, panel["title"]


def colors(picture: Image.Image, panel: dict[str, Any]) -> set[tuple[int, ...]]:
    """The colours inside a panel, without its title and, where it has one, its legend."""
    place = panel["gridPos"]
    column = (1600 - 8) / 24
    left, top = 8 + place["x"] * column, 96 + place["y"] * 38
    below = 90 if panel["type"] == "timeseries" else 20
    box = (int(left) + 2, top + 40, int(left + place["w"] * column) - 12, top + place["h"] * 38 - below)
    return {color for _, color in picture.crop(box).getcolors(1 << 20)}


@contextmanager
def prometheus() -> Iterator[str]:
    """Answers every range query with a rising line, whatever is asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            start, end, step = (float(query[name]) for name in ("start", "end", "step"))
            steps = range(int((end - start) / step) + 1)
            values = [[start + i * step, str(i / 100)] for i in steps] or [[end, "1"]]
            series = [{"metric": labels, "values": values} for labels in LABELS]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"status": "success", "data": {"result": series}}).encode())

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


NAMED = ("type", "priority", "state", "reason", "op", "kind", "alertname", "severity", "version")
# Enough labels for every legend, column and bucket.
LABELS = [
    {"job": f"taskward-{name}", "instance": f"{name}:2112", "le": le, **dict.fromkeys(NAMED, name)}
    for name, le in (("api", "0.5"), ("worker", "+Inf"))
]
