"""The Dockerfile and .dockerignore: small, without root, and only of files that are there."""

import json
import re
from fnmatch import fnmatch

from .files import ROOT, text

LINES = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text("Dockerfile"), flags=re.MULTILINE)).splitlines()
STEPS = [(word, rest) for word, _, rest in (line.partition(" ") for line in LINES if line)]
LAST = STEPS[max(i for i, (word, _) in enumerate(STEPS) if word == "FROM") :]


def copied() -> list[str]:
    """What is taken from the repository."""
    return [source for word, rest in STEPS if word == "COPY" and "--from" not in rest for source in rest.split()[:-1]]


def test_it_is_built_in_one_stage_and_runs_in_another():
    stages = [rest for word, rest in STEPS if word == "FROM"]
    assert stages == ["python:3.12-slim AS build", "python:3.12-slim"]
    assert not any("pip" in rest for _, rest in LAST)


def test_everything_that_is_installed_has_its_hash():
    installs = [rest for _, rest in STEPS if rest.startswith("pip install")]
    requirements, package = installs
    assert "--require-hashes -r requirements/runtime.txt" in requirements
    assert "--no-deps" in package
    assert "--no-build-isolation" in package
    assert "\nsetuptools==" in text("requirements/runtime.txt"), "what builds the package"


def test_what_is_copied_exists_and_is_not_ignored():
    rules = [line for line in text(".dockerignore").splitlines() if line and not line.startswith("#")]
    for source in copied():
        assert (ROOT / source).exists(), source
        verdicts = [not rule.startswith("!") for rule in rules if fnmatch(source.strip("/"), rule.strip("!/"))]
        assert verdicts[-1] is False, source


def test_what_is_not_copied_is_ignored():
    allowed = {rule[1:] for rule in text(".dockerignore").splitlines() if rule.startswith("!")}
    assert allowed == set(copied())


def test_the_examples_can_be_imported_with_what_is_installed():
    installed = text("requirements/runtime.txt") + text("requirements/examples.txt")
    assert {"httpx", "pillow"} <= set(re.findall(r"^([a-z0-9-]+)==", installed, re.MULTILINE))
    assert "examples/ examples/" in [rest for word, rest in LAST if word == "COPY"]


def test_it_does_not_run_as_root():
    assert [rest for word, rest in LAST if word == "USER"] == ["10001"]


def test_no_shell_stands_between_a_signal_and_the_program():
    starters = [rest for word, rest in STEPS if word in ("CMD", "ENTRYPOINT")]
    assert [json.loads(rest) for rest in starters] == [["taskward", "--help"]]
