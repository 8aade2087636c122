"""The API's description of itself: complete, and true under fire."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from taskward.api.auth import new_token
from taskward.api.openapi import SAID, document
from taskward.api.problems import KINDS
from taskward.api.table import ROUTES
from taskward.client.gateway import Gateway
from taskward.client.over_http import ERRORS
from taskward.task import Task
from tests.api.conftest import Api, Open


def test_every_route_is_described_and_nothing_else() -> None:
    assert set(SAID) == {route.name for route in ROUTES}
    described = {(path, method.upper()) for path, item in document(ROUTES)["paths"].items() for method in item}
    assert described == {(route.path, route.method) for route in ROUTES}


def test_what_is_guarded_says_so() -> None:
    paths = document(ROUTES)["paths"]
    for route in ROUTES:
        operation = paths[route.path][route.method.lower()]
        assert ("security" in operation) == (route.scope != "open")
        assert ("401" in operation["responses"]) == (route.scope != "open")


def test_references_lead_somewhere() -> None:
    described = document(ROUTES)
    found = []

    def look(value: object) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                found.append(value["$ref"])
            for part in value.values():
                look(part)
        elif isinstance(value, list):
            for part in value:
                look(part)

    look(described)
    names = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}
    assert set(found) <= names
    assert len(names) > 10


def test_the_client_knows_the_problems_by_the_same_words() -> None:
    ours = {kind.word: error for error, kind in KINDS.items() if error.__module__ == "taskward.errors"}
    assert ours == dict(ERRORS)


async def test_it_is_served(api: Api) -> None:
    answer = await api.http.get("/openapi.json")
    assert answer.json() == document(ROUTES)


# What the document cannot say: which priorities there are, what is past, what a page token looks like; that tasks of a
# batch are refused one by one; and that "batch" could be the id of a task to GET.
CONFIG = """
[checks]
positive_data_acceptance.enabled = false
allow_header_conformance.enabled = false

[[operations]]
include-operation-id = "submit_batch"
[operations.checks]
negative_data_rejection.enabled = false
"""


async def test_schemathesis_finds_nothing_to_contradict_it(
    open_api: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look(gateway: Gateway, id: str, *, seconds: float) -> Task:
        return await gateway.get(id)

    monkeypatch.setattr(Gateway, "wait", look)  # else a wait of a minute is one
    token, digest = new_token()
    entry = {"name": "all", "sha256": digest, "scopes": ["submit", "read", "operate"]}
    tokens, config = tmp_path / "tokens.json", tmp_path / "schemathesis.toml"
    tokens.write_text(json.dumps({"tokens": [entry]}))
    config.write_text(CONFIG)
    async with open_api(api_tokens_file=str(tokens)) as api:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
            *("run", f"{api.url}/openapi.json", "--header", f"Authorization: Bearer {token}"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--seed", "1", "--no-color"),
        ]
        result = await trio.run_process(
            command, capture_stdout=True, stderr=subprocess.STDOUT, check=False, cwd=tmp_path
        )
        assert result.returncode == 0, result.stdout.decode()
