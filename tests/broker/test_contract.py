"""Every script's header is its contract: it declares its keys, and nothing but these is touched."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from taskward.broker import script
from taskward.broker.keys import FAMILIES, NAMED, Keys
from tests.support.rig import Rig

FOLDER = files("taskward.broker").joinpath("scripts")
NAMES = sorted(entry.name.removesuffix(".lua") for entry in FOLDER.iterdir() if entry.name.endswith(".lua"))
SCRIPTS = [name for name in NAMES if name != "prelude"]

# A call's command and the expression that names its key.
CALL = re.compile(r"\b(?:call|in_chunks)\('([A-Z]+)'(?:, (unpack\(\w+\)|[\w.]+(?:\[[^]]*\])?))?")
KEYLESS = {"INFO", "TIME", "PUBLISH"}
WRITES = re.compile(r"'(?:SET|DEL|[HLRSZ](?:SET|SETNX|DEL|PUSH|POP|ADD|REM|REMRANGEBYRANK))'")
# Locals that stand for a declared key: loop variables and parameters over declared names only.
ALIASES = {
    "audit": {"key"},
    "cancel": {"place"},
    "discard": {"key"},
    "purge": {"place"},
    "extend": {"key"},
    "forget": {"key", "place"},
    "get": {"key"},
    "list": {"key"},
    "redrive": {"place"},
    "report": {"key"},
    "step": {"source", "move[1]"},
}


def _body(name: str) -> str:
    text = FOLDER.joinpath(f"{name}.lua").read_text()
    return re.sub(r"--.*", "", text)


def _header(name: str) -> str:
    return "".join(re.findall(r"^--.*\n", FOLDER.joinpath(f"{name}.lua").read_text(), re.MULTILINE))


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 12


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_header_says_what_it_must(name: str) -> None:
    header = _header(name)
    assert header.startswith(f"-- {name}: ")
    for line in ("KEYS", "ARGV", "RETURNS"):
        assert re.search(rf"^-- {line} \S", header, re.MULTILINE), line
    flags = re.findall(r"^-- FLAGS (.*)$", header, re.MULTILINE)
    assert flags in ([], ["allow-oom"], ["no-writes"])
    if WRITES.search(_body(name)):
        assert flags != ["no-writes"]
        assert "INVARIANT" in header or name == "report"
    else:
        assert flags == ["no-writes"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_its_keys_are_in_the_table_and_used(name: str) -> None:
    loaded = script.load(name)
    assert set(loaded.named) <= NAMED
    assert set(loaded.families) <= set(FAMILIES)
    used = set(re.findall(r"\w+", _body(name)))
    assert set(loaded.named) <= used
    # The families come with the priorities; a script may need one of them only to know these.
    assert not loaded.families or set(loaded.families) & used


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_touches_declared_keys_only(name: str) -> None:
    loaded = script.load(name)
    for command, key in CALL.findall(_body(name)):
        if command in KEYLESS:
            continue
        plain = re.sub(r"\[.*|^unpack\(|\)$", "", key)  # one of a family, or all of it
        assert key in loaded.named or (key != plain and plain in loaded.families) or key in ALIASES.get(name, set()), (
            f"{command} {key}"
        )


@pytest.mark.parametrize("name", NAMES)
def test_it_builds_no_key_name(name: str) -> None:
    body = _body(name)
    assert "taskward" not in body
    assert "KEYS" not in body  # the loader gives every declared key a name
    assert not re.search(r"call\('\w+', [^,)]*(?:\.\.|')", body)
    assert not re.search(r"\b(?:EVAL|KEYS|SCAN|loadstring|setfenv)\b", body)
    assert name == "audit" or "cjson" not in body  # what was submitted is read where nobody waits for it


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_has_tests_of_its_own(name: str) -> None:
    assert list(Path(__file__).parent.glob(f"test_{name}.py")) or list(Path(__file__).parent.glob(f"test_{name}_*.py"))


async def test_every_script_runs_on_an_empty_store_and_leaves_nothing(rig: Rig) -> None:
    await rig.broker.submit([])
    await rig.broker.extend([])
    await rig.broker.reap()
    await rig.broker.forget()
    await rig.broker.sample()
    await rig.broker.redrive(["a"])
    await rig.broker.run_now(["a"])
    await rig.broker.cancel("a", cause="user")
    await rig.broker.call("get", ["a"])
    await rig.broker.call("list", ["done", 0, 10, "", "", ""])
    assert rig.store.read() == {"reaping": f"{rig.clock.ms} 0"}


def test_all_keys_of_a_queue_share_its_hash_tag() -> None:
    keys = Keys("q", ["high", "low"])
    every = [keys(name) for name in NAMED] + [key for family in FAMILIES for key in keys.family(family)]
    assert len(set(every)) == len(NAMED) + 2 * len(FAMILIES)
    assert all(key.startswith("taskward:{q}:") for key in [*every, keys.channel()])
    assert keys("spec") == "taskward:{q}:spec"
    assert keys.family("ready") == ["taskward:{q}:ready:high", "taskward:{q}:ready:low"]


def test_a_name_outside_the_table_is_refused() -> None:
    keys = Keys("q", ["high"])
    with pytest.raises(KeyError):
        keys("specs")
    with pytest.raises(KeyError):
        keys.family("spec")
    with pytest.raises(KeyError):
        keys("ready")


def test_a_script_gets_its_keys_in_the_order_of_its_header() -> None:
    loaded = script.load("submit")
    keys = loaded.keys(Keys("q", ["high", "low"]))
    tails = [key.removeprefix("taskward:{q}:") for key in keys]
    families = [f"{family}:{p}" for family in loaded.families for p in ("high", "low")]
    assert tails == [*loaded.named, *families]
