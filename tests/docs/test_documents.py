"""The documents say what the code does: names of settings, states, keys, routes, problems, metrics and files."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from taskward.api.problems import KINDS
from taskward.api.table import ROUTES
from taskward.broker.keys import FAMILIES, NAMED
from taskward.cli.main import build_parser
from taskward.config import Config
from taskward.task import TRANSITIONS
from taskward.telemetry.instruments import INSTRUMENTS

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
SETTINGS = {f.metadata["env"] for f in fields(Config)}
# Names in capitals that are not ours.
FOREIGN = re.compile(r"^(OTEL_|GF_|PROMETHEUS_|TASKWARD_)")


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def settings_table() -> str:
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    rows += [f"| `{f.metadata['env']}` | {_default(f.default)} | {f.metadata['text']} |" for f in fields(Config)]
    return "\n".join(rows)


def _default(value: Any) -> str:
    if isinstance(value, tuple):
        value = ",".join(f"{name}:{weight}" for name, weight in value)
    return f"`{value}`" if value != "" else "-"


def test_configuration_lists_every_setting_as_it_is() -> None:
    assert settings_table() in text_of("docs/configuration.md"), f"put this in:\n{settings_table()}"


def test_the_state_diagram_is_the_table_of_transitions() -> None:
    diagram = re.search(r"```mermaid\nstateDiagram-v2\n(.*?)```", text_of("docs/design.md"), re.DOTALL)
    assert diagram is not None
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", diagram[1], re.MULTILINE))
    assert drawn == {(str(before), str(after)) for before, afters in TRANSITIONS.items() for after in afters}


def test_every_key_of_the_store_is_in_the_design() -> None:
    table = text_of("docs/design.md").split("## The store")[1].split("**Scripts.**")[0]
    named = set(re.findall(r"`(\w+)(?::<priority>)?`", table))
    assert named >= NAMED | set(FAMILIES)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_settings_named_in_a_document_exist(document: Path) -> None:
    named = set(re.findall(r"\b([A-Z]{2,}(?:_[A-Z]+)+)\b", document.read_text()))
    unknown = {name for name in named if name not in SETTINGS and not FOREIGN.match(name)}
    assert unknown <= {"REPLICAOF_NO_ONE", "SCRIPT_FLUSH"}, unknown


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_variables_of_the_command_line_named_in_a_document_are_read(document: Path) -> None:
    code = [
        path.read_text() for folder in ("sched/taskward/cli", "tests/torture") for path in ROOT.glob(f"{folder}/*.py")
    ]
    for name in set(re.findall(r"\bTASKWARD_[A-Z]+\b", document.read_text())):
        assert any(f'"{name}"' in text for text in code), name


def test_the_token_of_the_command_line_is_where_people_look_for_it() -> None:
    assert "`TASKWARD_TOKEN`" in text_of("docs/configuration.md").split("## Tokens")[1]
    for name in ("README.md", "docs/runbooks.md"):
        assert "`TASKWARD_TOKEN`" in text_of(name)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_routes_named_in_a_document_exist(document: Path) -> None:
    patterns = [(r.method, re.compile(re.sub(r"\{\w+\}", r"[^/]+", r.path) + "$")) for r in ROUTES]
    # The scrape ports have these beside the API.
    patterns += [("GET", re.compile(path)) for path in ("/metrics$", "/$")]
    for method, path in re.findall(r"`(GET|POST|DELETE|PUT) (/[^\s`?]*)", document.read_text()):
        assert any(method == m and pattern.match(path) for m, pattern in patterns), f"{method} {path}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_named_in_a_document_exist(document: Path) -> None:
    commands = {name for action in build_parser()._actions for name in (action.choices or ())}
    for command in re.findall(r"(?:^|`|\$ )taskward ([a-z]+)", document.read_text(), re.MULTILINE):
        assert command in commands, command


def test_the_api_document_has_every_route_and_problem() -> None:
    text = text_of("docs/api.md")
    for route in ROUTES:
        assert f"`{route.method} {route.path}`" in text, route.path
    for kind in KINDS.values():
        assert f"`{kind.word}`" in text, kind.word


def test_metrics_named_in_the_readme_exist() -> None:
    names = {i.name for i in INSTRUMENTS}
    named = set(re.findall(r"`([a-z_]+)(?:\{[a-z,]+\})?`", text_of("README.md")))
    metrics = {name for name in named if name.endswith(("_total", "_seconds", "_depth", "_inflight"))}
    fields_of_a_task = {"delay_seconds", "timeout_seconds"}
    assert metrics - fields_of_a_task <= names


COMPARED = (
    *("no-op/s, conc. 10", "no-op/s, conc. 100", "10 ms sleeps/s, conc. 100"),
    *("submits/s, one client", "bulk submits/s", "HTTP submits/s, 32 conn.", "idle submit to start, p50 ms"),
)


def test_the_comparison_of_the_readme_is_what_was_measured() -> None:
    page = text_of("docs/benchmarks.md")
    [columns] = [line for line in page.splitlines() if "no-op/s, conc. 10" in line]
    places = [[cell.strip() for cell in columns.strip("|").split("|")].index(column) for column in COMPARED]
    measured = {row[0]: [row[at].partition(" (")[0] for at in places] for row in _rows(page, "taskward")}
    shown = _rows(text_of("README.md").replace("**", ""), "Taskward")
    assert len(shown) >= 5
    for name, *numbers in shown:
        assert numbers == measured[name.partition(" ")[0].lower()], name


def _rows(text: str, first: str) -> list[list[str]]:
    """The cells of a table's rows, from the one that begins with `first`."""
    table = re.search(rf"^\| {first} .*\n(?:\|.*\n)*", text, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()]
