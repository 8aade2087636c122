"""The console as it is served: its policy, what it asks for, that the package has it. tests/end_to_end opens it."""

import re
import tomllib
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path

import pytest

from taskward.api.auth import new_token
from taskward.api.console_page import ROUTES as PAGES
from taskward.api.dlq import Redrive
from taskward.api.table import ROUTES
from taskward.task import State
from taskward.worker.report import MOST_RUNNING_SHOWN
from tests.api.conftest import Api, Open

FOLDER = files("taskward.api").joinpath("console")
NAMES = {"/": "index.html", "/console.js": "console.js", "/console.css": "console.css"}
TYPES = {"/": "text/html", "/console.js": "text/javascript", "/console.css": "text/css"}
SCRIPT = FOLDER.joinpath("console.js").read_text()
POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
}


@pytest.mark.parametrize("path", NAMES)
async def test_a_file_is_served_as_it_is_under_a_strict_policy(api: Api, path: str) -> None:
    answer = await api.http.get(path)
    assert answer.status_code == 200
    assert answer.content == FOLDER.joinpath(NAMES[path]).read_bytes()
    assert answer.headers["Content-Type"] == f"{TYPES[path]}; charset=utf-8"
    assert set(answer.headers["Content-Security-Policy"].split("; ")) == POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


async def test_the_page_needs_no_token_and_its_data_does(open_api: Open, tmp_path: Path) -> None:
    _, digest = new_token()
    tokens = tmp_path / "tokens.json"
    tokens.write_text(f'{{"tokens": [{{"name": "one", "sha256": "{digest}", "scopes": ["read"]}}]}}')
    async with open_api(api_tokens_file=str(tokens)) as api:
        assert [(await api.http.get(path)).status_code for path in NAMES] == [200, 200, 200]
        for route in read_by_the_console():
            assert (await api.http.get(route.partition(" ")[2].replace("{task_id}", "x"))).status_code == 401


def test_there_is_no_other_page() -> None:
    assert {route.path for route in PAGES} == set(NAMES)
    assert {path.name for path in FOLDER.iterdir()} == set(NAMES.values())


def asked_for() -> set[str]:
    """Every route the script names, as "METHOD /path"."""
    return set(re.findall(r'"((?:GET|POST|PUT|PATCH|DELETE) /[^"]*)"', SCRIPT))


def read_by_the_console() -> set[str]:
    return {route for route in asked_for() if route.startswith("GET")}


def test_every_route_the_script_asks_for_is_one() -> None:
    assert asked_for() <= {f"{route.method} {route.path}" for route in ROUTES}
    assert len(asked_for()) >= 12
    assert SCRIPT.count("fetch(") == 1, "there is another way to the API than call()"


def test_the_script_knows_every_state_and_what_its_actions_do() -> None:
    states = dict(re.findall(r"^  (\w+): \[(.*)\],$", SCRIPT.split("const STATES")[1].split("};")[0], re.MULTILINE))
    assert set(states) == {str(state) for state in State}
    actions = set(re.findall(r"\"([\w-]+)\"", " ".join(states.values())))
    known = set(re.findall(r'^  "?([\w-]+)"?: \{', SCRIPT.split("const ACTIONS")[1].split("\n};")[0], re.MULTILINE))
    assert actions < known


def test_the_script_has_the_limits_of_those_it_asks() -> None:
    assert f"const MOST_REPORTED = {MOST_RUNNING_SHOWN};" in SCRIPT
    assert f"const MOST_REDRIVEN = {Redrive().limit};" in SCRIPT


@pytest.mark.parametrize("name", NAMES.values())
def test_nothing_is_inline_or_from_elsewhere(name: str) -> None:
    text = FOLDER.joinpath(name).read_text()
    # SVG's namespace is a name, not an address.
    assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "@import",
        "url(",
    ):
        assert way not in text
    if name.endswith(".html"):
        assert (
            re.findall(r"<script(?! type=\"module\" src=\"console\.js\"></script>)|<style|\bstyle=|\son\w+=", text)
            == []
        )


def test_the_package_has_every_file() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["taskward"]
    for name in NAMES.values():
        assert any(fnmatch(f"api/console/{name}", pattern) for pattern in patterns)
