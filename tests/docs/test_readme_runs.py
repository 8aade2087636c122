"""README.md's code, copied into a folder and run as a reader would."""

import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from taskward.cli.main import build_parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
API = "http://127.0.0.1:8080"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The folder with every Python block in the file its first line names."""
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        name = re.match(r"# (shop/\w+\.py)", block)
        assert name, block
        path = tmp_path / name[1]
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write(block)
    return tmp_path


@pytest.fixture
def submitted() -> Iterator[tuple[str, list[object]]]:
    """An API that takes everything. -> its address and what it has taken."""
    taken: list[object] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(202)
            self.end_headers()
            self.wfile.write(json.dumps({"id": taken[-1]["id"], "state": "queued"}).encode())

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", taken
        server.shutdown()
        thread.join()


def run(folder: Path, *words: str) -> None:
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_handler_passes_its_own_test(shop: Path) -> None:
    run(shop, "-m", "pytest", "-q", "-p", "no:cacheprovider", "shop")


def test_the_app_loads_with_its_schedule(shop: Path) -> None:
    run(shop, "-c", "from taskward.app import load; assert list(load('shop.tasks:app').schedules) == ['newsletter']")


def test_the_client_submits_what_the_handler_takes(shop: Path, submitted: tuple[str, list[object]]) -> None:
    url, taken = submitted
    path = shop / "shop" / "checkout.py"
    path.write_text(path.read_text().replace(API, url))
    run(shop, "-m", "shop.checkout")
    [task] = taken
    ended = "from taskward.testing import run_attempt; from shop.tasks import app; import json, sys; "
    ended += "assert run_attempt(app, **json.loads(sys.argv[1])).state == 'succeeded'"
    run(shop, "-c", ended, json.dumps({name: task[name] for name in ("type", "payload")}))


def test_every_command_of_taskward_is_one_the_command_line_knows() -> None:
    lines = [line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
    commands = [line for line in lines if re.match(r"([A-Z_]+=\S+ )*taskward ", line)]
    assert len(commands) >= 6
    for line in commands:
        build_parser().parse_args(shlex.split(line)[shlex.split(line).index("taskward") + 1 :])
    for arguments in re.findall(r'make dev ARGS="([^"]*)"', README):
        build_parser().parse_args(["dev", *arguments.split()])
