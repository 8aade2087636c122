"""docs/runbooks.md: a section for every alert, with commands and settings that exist."""

import re
import shlex
from dataclasses import fields

import pytest

from taskward.api.table import ROUTES
from taskward.cli.main import build_parser
from taskward.config import Config

from .files import ALERTS, COMPOSE, RUNBOOKS

PARTS = ("Meaning", "Impact", "Diagnosis", "Mitigation")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", RUNBOOKS, re.DOTALL | re.MULTILINE))
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", RUNBOOKS, re.DOTALL) for line in block.splitlines()]
REQUESTS = {(route.method, re.sub(r"\{\w+}", "{}", route.path)) for route in ROUTES}


def test_every_alert_has_its_section_and_every_section_its_alert():
    assert sorted(SECTIONS) == sorted(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_a_section_has_its_four_parts_in_order(name):
    assert tuple(re.findall(r"^\*\*(\w+)\.\*\*", SECTIONS[name], re.MULTILINE)) == PARTS
    assert "```promql" in SECTIONS[name] or "```sh" in SECTIONS[name]


def test_the_index_has_every_alert_once():
    index = RUNBOOKS.partition("\n## ")[0]
    linked = re.findall(r"\[(\w+)\]\(#(taskward\w+)\)", index)
    assert sorted(f"Taskward{name}" for name, _ in linked) == sorted(ALERTS)
    assert all(f"Taskward{name}".lower() == anchor for name, anchor in linked)


def test_every_link_inside_the_page_leads_somewhere():
    anchors = {name.lower() for name in SECTIONS}
    assert set(re.findall(r"\(#([^)]+)\)", RUNBOOKS)) <= anchors


def test_every_setting_that_is_named_exists():
    settings = {f.metadata["env"] for f in fields(Config)}
    named = set(re.findall(r"`((?!OTEL_|TASKWARD_)[A-Z][A-Z0-9]*_[A-Z0-9_]+)`", RUNBOOKS))
    assert named
    assert named <= settings


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("taskward ")])
def test_every_command_is_one_the_command_line_knows(line):
    arguments = shlex.split(line, comments=True)[1:]
    if "--help" in arguments:
        with pytest.raises(SystemExit, match="0"):
            build_parser().parse_args(arguments)
    else:
        build_parser().parse_args(arguments)


@pytest.mark.parametrize("line", [line for line in SHELL if "$API/" in line])
def test_every_request_is_to_a_route_of_the_api(line):
    words = shlex.split(line.partition("|")[0], comments=True)
    method = words[words.index("-X") + 1] if "-X" in words else "GET"
    path = next(word for word in words if word.startswith("$API/")).removeprefix("$API").partition("?")[0]
    spelled = re.sub(r"(?<=/queues/)\w+|(?<=/dlq/)ID|(?<=/tasks/)ID", "{}", path)
    assert (method, spelled) in REQUESTS


def test_every_service_that_is_named_is_in_the_compose_file():
    named = re.findall(
        r"^docker compose (?:ps|logs|restart|exec)((?: +-{1,2}\S+(?: \d+\w?)?)*)((?: [a-z-]+)*)", "\n".join(SHELL), re.M
    )
    services = {word for _, words in named for word in words.split()[:1]}
    assert services
    assert services <= set(COMPOSE["services"])
