"""Holds grafana/dashboard.json against Grafana's own types (@grafana/schema).

    npm ci --prefix grafana/picture
    python grafana/picture/check.py

tsc is given the JSON as a literal, so that it sees names that do not exist, not only values of the wrong type.
"""
# ruff: noqa: S603, T201 - a command that starts a program and prints what it says

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
DASHBOARD = HERE.parent / "dashboard.json"
MODULES = HERE / "node_modules"
TSC = MODULES / ".bin/tsc"
OPTIONS = ("--noEmit", "--strict", "--skipLibCheck", "--module", "preserve", "--target", "es2022", "--pretty", "false")


def main() -> int:
    """Print what is wrong."""
    if not TSC.exists():
        print(f"{TSC} is missing: npm ci --prefix {HERE}", file=sys.stderr)
        return 2
    found = complaints(DASHBOARD.read_text(encoding="utf-8"))
    print(*found, sep="\n", end="\n" if found else "")
    return int(bool(found))


def complaints(dashboard: str) -> list[str]:
    """What tsc has against a dashboard's JSON, a line each; line numbers are the JSON's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.joinpath("node_modules").symlink_to(MODULES)
        shutil.copy(HERE / "schema.ts", folder)
        literal = f"import type {{ Dashboard }} from './schema'; export const dashboard: Dashboard = {dashboard}"
        folder.joinpath("dashboard.json.ts").write_text(literal, encoding="utf-8")
        command = [TSC, *OPTIONS, "dashboard.json.ts"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    found = (done.stdout + done.stderr).splitlines()
    if done.returncode and not found:
        raise RuntimeError(f"tsc ended with {done.returncode} and said nothing")
    return found


if __name__ == "__main__":
    sys.exit(main())
