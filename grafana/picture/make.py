"""Draws grafana/dashboard.json as one picture, with the data of a running Prometheus and Grafana's own UI components.

    npm ci --prefix grafana/picture
    python grafana/picture/make.py --prometheus http://localhost:9090 --minutes 15 --out docs/grafana-dashboard.b64

No Grafana is needed: @grafana/ui and @grafana/data are the libraries Grafana's panels are made of. Chromium is.
"""
# ruff: noqa: S603, T201 - a command that starts two programs and says how it went

import argparse
import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from PIL import Image

HERE = Path(__file__).parent
DASHBOARD = HERE.parent / "dashboard.json"
MODULES = HERE / "node_modules"
FONTS = {"inter-latin-400-normal": "Inter-Regular", "inter-latin-500-normal": "Inter-Medium"}
CAPTION = "rendered from grafana/dashboard.json by Grafana's own UI components (@grafana/ui {}), {}"

# As Grafana does it: some 500 points across a panel, and a rate over four scrapes at least.
POINTS = 500
SCRAPE_SECONDS = 2
WIDTH = 1600
HEAD, CELL = 96 + 8, 38
CHROMIUM = (
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
    *("--run-all-compositor-stages-before-draw", "--virtual-time-budget=15000"),
)


def main() -> int:
    """Query, build, draw, write."""
    options = _parse()
    if not MODULES.is_dir():
        print(f"{MODULES} is missing: npm ci --prefix {HERE}", file=sys.stderr)
        return 2
    dashboard = answered(json.loads(DASHBOARD.read_text(encoding="utf-8")), options.prometheus, options.minutes)
    for title in empty_panels(dashboard):
        print(f"no data: {title}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as directory:
        site = Path(directory, "site")
        build(site)
        (site / "dashboard.json").write_text(json.dumps(dashboard), encoding="utf-8")
        picture = Path(directory, "picture.png")
        with serving(site) as url:
            screenshot(url, picture, height=height_of(dashboard), profile=Path(directory, "profile"))
        content = packed(picture)
    options.out.write_bytes(base64.encodebytes(content))
    if options.png:
        options.png.write_bytes(content)
    print(f"{options.out}: a PNG of {len(content)} bytes")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Draw grafana/dashboard.json with the data of a Prometheus.")
    parser.add_argument("--prometheus", metavar="URL", default="http://localhost:9090", help="%(default)s")
    parser.add_argument("--minutes", metavar="N", type=int, default=15, help="how far to look back (%(default)s)")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="where the PNG goes, as base64")
    parser.add_argument("--png", metavar="FILE", type=Path, help="and where it goes as it is")
    return parser.parse_args()


def answered(dashboard: dict[str, Any], prometheus: str, minutes: int) -> dict[str, Any]:
    """The dashboard with Prometheus' answers at every target and annotation, over the last `minutes`."""
    end = time.time() // SCRAPE_SECONDS * SCRAPE_SECONDS
    seconds = minutes * 60
    step = max(SCRAPE_SECONDS, -(-seconds // POINTS))
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", [])]
    for query in targets + [a["target"] for a in dashboard["annotations"]["list"] if "target" in a]:
        back = 0 if query.get("instant") else seconds
        query["step"] = int(query["interval"].removesuffix("s")) if "interval" in query else step
        expr = interpolated(query["expr"], query["step"])
        query["answer"] = ask(prometheus, expr, start=end - back, end=end, step=query["step"])
    version = json.loads((MODULES / "@grafana/ui/package.json").read_text(encoding="utf-8"))["version"]
    day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(end))
    return {**dashboard, "range": [end - seconds, end], "minutes": minutes, "caption": CAPTION.format(version, day)}


def ask(prometheus: str, expr: str, *, start: float, end: float, step: int) -> list[dict[str, Any]]:
    """The series of a range query. Raises HTTPError where Prometheus does not like it."""
    query = urlencode({"query": expr, "start": start, "end": end, "step": step})
    with urlopen(f"{prometheus}/api/v1/query_range?{query}", timeout=60) as response:  # noqa: S310 - the operator's URL
        series: list[dict[str, Any]] = json.load(response)["data"]["result"]
    return series


def interpolated(expr: str, step: int) -> str:
    """The expr with Grafana's variables replaced: everything is chosen."""
    expr = expr.replace("$__rate_interval", f"{max(step + SCRAPE_SECONDS, 4 * SCRAPE_SECONDS)}s")
    for variable in ("job", "instance", "priority", "type"):
        expr = expr.replace(f'"${variable}"', '".+"')
    return expr


def empty_panels(dashboard: dict[str, Any]) -> list[str]:
    """The titles of panels without any data."""
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    return [panel["title"] for panel in panels if not any(target["answer"] for target in panel["targets"])]


def build(site: Path) -> None:
    """The page with everything it loads."""
    command = [f"{MODULES}/.bin/esbuild", f"{HERE}/src/app.jsx", "--bundle", "--minify", f"--outfile={site}/app.js"]
    loaders = [f"--loader:.{kind}=dataurl" for kind in ("svg", "png", "woff", "woff2", "ttf")]
    define = '--define:process.env.NODE_ENV="production"'
    subprocess.run([*command, *loaders, define, "--log-level=error"], check=True)
    shutil.copy(HERE / "src/index.html", site)
    shutil.copytree(MODULES / "@grafana/ui/dist/public", site / "public/build")
    fonts = site / "public/fonts/inter"
    fonts.mkdir(parents=True)
    for ours, grafanas in FONTS.items():
        shutil.copy(MODULES / f"@fontsource/inter/files/{ours}.woff2", fonts / f"{grafanas}.woff2")


@contextmanager
def serving(site: Path) -> Iterator[str]:
    """Serve a directory on a free port of this machine, and give its URL."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it that
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def screenshot(url: str, picture: Path, *, height: int, profile: Path) -> None:
    """What Chromium makes of a page. Raises CalledProcessError, TimeoutExpired."""
    size = f"--window-size={WIDTH},{height}"
    command = [*CHROMIUM, size, f"--user-data-dir={profile}", f"--screenshot={picture}", url]
    subprocess.run(command, check=True, capture_output=True, timeout=180)


def packed(picture: Path) -> bytes:
    """The PNG with a palette: less than half as large, and the eye sees no difference."""
    buffer = BytesIO()
    Image.open(picture).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def height_of(dashboard: dict[str, Any]) -> int:
    """Of the page (src/app.jsx), in pixels."""
    bottoms: list[int] = [panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]]
    return HEAD + CELL * max(bottoms)


if __name__ == "__main__":
    sys.exit(main())
