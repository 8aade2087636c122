"""Schemathesis against the served description, at length; tests/api has the short one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from taskward.api.auth import new_token
from tests.api.test_openapi import CONFIG
from tests.fuzz.conftest import OpenPorts

EXAMPLES = "150"
SECONDS = "150"
SCOPES = ["submit", "read", "operate"]


@pytest.mark.slow
async def test_the_api_does_what_it_says_of_itself(open_ports: OpenPorts, tmp_path: Path) -> None:
    """Another seed each time: it is in the output."""
    config, tokens = tmp_path / "schemathesis.toml", tmp_path / "tokens.json"
    token, digest = new_token()
    config.write_text(CONFIG)
    tokens.write_text(json.dumps({"tokens": [{"name": "all", "sha256": digest, "scopes": SCOPES}]}))
    async with open_ports(api_tokens_file=str(tokens)) as ports:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
            *("run", f"http://127.0.0.1:{ports.api}/openapi.json", "--header", f"Authorization: Bearer {token}"),
            *("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", EXAMPLES, "--max-time", SECONDS),
            *("--request-timeout", "70", "--continue-on-failure", "--no-color", *seed()),
        ]
        result = await trio.run_process(
            command, capture_stdout=True, stderr=subprocess.STDOUT, check=False, cwd=tmp_path
        )
    assert result.returncode == 0, result.stdout.decode()


def seed() -> list[str]:
    """TASKWARD_SEED, if somebody wants to see it again."""
    return ["--seed", os.environ["TASKWARD_SEED"]] if "TASKWARD_SEED" in os.environ else []
