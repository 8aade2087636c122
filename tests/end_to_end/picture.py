"""`make dashboard-picture`: a real system under the traffic script, scraped by a real Prometheus, drawn as it is."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.end_to_end import traffic
from tests.end_to_end.prometheus import MISSING, installed, prometheus
from tests.end_to_end.system import ROOT, dev

PICTURE = ROOT / "grafana/picture"


def main() -> int:
    """-> the exit code of the drawing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=15)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--png", type=Path)
    options = parser.parse_args()
    if not installed():
        print(MISSING, file=sys.stderr)
        return 2
    if not (PICTURE / "node_modules").is_dir():  # said now, not after a quarter of an hour
        print(f"npm ci --prefix {PICTURE} comes first", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with dev(folder, WORKER_CONCURRENCY="40") as (_, api, ports), prometheus(folder, **ports) as scraped:
            traffic.run(api, seconds=60 * options.minutes)
            command = [
                sys.executable,
                str(PICTURE / "make.py"),
                "--prometheus",
                scraped.url,
                "--minutes",
                str(options.minutes),
            ]
            command += ["--out", str(options.out), *(["--png", str(options.png)] if options.png else [])]
            return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
