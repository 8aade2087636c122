"""An environment for every peer, under build/peers: a venv, a node_modules, or what the machine has for Ruby."""

import shutil
import subprocess
import sys
from pathlib import Path

from bench.processes import ROOT

FOLDER = ROOT / "build" / "peers"
VERSIONS = Path(__file__).with_name("versions.txt")
OURSELVES = "taskward"
# Peers in other languages: the program that runs their adapter.
NODE, RUBY = "bullmq", "sidekiq"
RUNNERS = {NODE: ("node", "run.mjs"), RUBY: ("ruby", "run.rb")}
SECONDS = 600


class Unavailable(Exception):
    """A peer cannot be installed or run here; the message is for the table."""


def versions() -> dict[str, list[str]]:
    """Peer -> what is installed for it, in the order of versions.txt, ourselves first."""
    lines = [line.split() for line in VERSIONS.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return {OURSELVES: []} | {name: requirements for name, *requirements in lines}


def install(name: str) -> None:
    """Make its environment, unless it is there. Raises Unavailable."""
    wanted = versions()[name]
    if name == RUBY:
        [(gem, _, version)] = [each.partition("==") for each in wanted]
        _run("ruby", "-e", "gem ARGV[0], ARGV[1]", gem, version)
        return
    stamp = FOLDER / name / "installed.txt"
    if not wanted or (stamp.exists() and stamp.read_text().split() == wanted):
        return
    print(f"{name}: installing {' '.join(wanted)}", flush=True)
    folder = str(FOLDER / name)
    if name == NODE:
        _run("npm", "install", "--no-fund", "--no-audit", "--loglevel", "error", "--prefix", folder, *wanted)
    else:
        _run(sys.executable, "-m", "venv", folder)
        _run(f"{folder}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted)
    stamp.write_text(" ".join(wanted))


def programs(name: str) -> Path:
    """The folder with its commands."""
    return Path(sys.executable).parent if name == OURSELVES else FOLDER / name / "bin"


def _run(*command: str) -> None:
    if not shutil.which(command[0]):
        raise Unavailable(f"{command[0]} is not installed")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{command[0]} took longer than {SECONDS} s") from None
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Unavailable(f"not installable: {' '.join(last)[:200]}")
