"""`python -m bench`: measure Taskward on this machine, and print a table."""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from os import getloadavg
from pathlib import Path

from bench.calibration import calibrate, machine
from bench.measures import MEASURES, Measure
from bench.processes import ROOT
from bench.report import Run, markdown, table, write_section
from bench.server import Server, server
from bench.setup import Setup

FOLDER = ROOT / "build" / "bench"
QUICK = 0.1


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for. -> the exit code: 1 where a measure failed."""
    options = _parser().parse_args(argv)
    scale = options.scale or (QUICK if options.quick else 1.0)
    runs = options.runs or (1 if options.quick else 3)
    setup = Setup(scale, options.pin, FOLDER)
    failed = False
    with server(FOLDER) as idle:
        head = _head(idle, setup, runs)
        print(*head, sep="\n", flush=True)
        if options.markdown:
            write_section(options.markdown, "bench:machine", ["", *head, ""])
        for name in options.measures or MEASURES:
            lines = _measure(name, MEASURES[name], setup, idle, runs)
            failed |= not lines
            if lines and options.markdown:
                write_section(options.markdown, f"bench:{name}", ["", *lines, ""])
    return int(failed)


def _measure(name: str, measure: Measure, setup: Setup, idle: Server, runs: int) -> list[str]:
    print(f"\n{name}: {measure.__doc__}", flush=True)
    seen = []
    for n in range(1, runs + 1):
        calibration = calibrate(idle.url)
        try:
            readings = measure(setup)
        except (RuntimeError, OSError) as exc:
            print(f"{name} failed: {exc}", file=sys.stderr)
            return []
        seen.append(Run(readings, calibration))
        if runs > 1:
            print(f"  {n} of {runs}: {', '.join(f'{r.value:,.6g} {r.unit}' for r in readings)}", flush=True)
    lines = markdown(table(seen))
    print(*lines, sep="\n", flush=True)
    return lines


def _head(idle: Server, setup: Setup, runs: int) -> list[str]:
    load = getloadavg()[0]
    pinned = f", processes under test on CPU {','.join(map(str, sorted(setup.cpus)))}" if setup.cpus else ""
    return [
        f"{datetime.now(UTC):%Y-%m-%d}: {machine()}, {idle.version} on loopback, load before {load:.1f}. "
        f"Medians of {runs} run{'s' if runs > 1 else ''} at scale {setup.scale:g}{pinned}.",
    ]


def _parser() -> argparse.ArgumentParser:
    texts = [f"  {name:<9}{measure.__doc__}" for name, measure in MEASURES.items()]
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog="\n".join(["measures:", *texts]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("measures", nargs="*", metavar="MEASURE", type=_name, help="which; all where none is named")
    parser.add_argument("--runs", type=int, metavar="N", help="runs of each measure (3)")
    parser.add_argument("--quick", action="store_true", help="one run of a tenth of everything")
    parser.add_argument("--scale", type=float, metavar="X", help="sizes and times are so much of the full ones")
    parser.add_argument(
        "--pin", type=_cpus, default=frozenset(), metavar="CPUS", help="run workers and API there: 1 or 0,1"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also put the tables into their places in FILE")
    return parser


def _name(text: str) -> str:
    if text not in MEASURES:
        raise argparse.ArgumentTypeError(f"no measure {text!r}; there are {', '.join(MEASURES)}")
    return text


def _cpus(text: str) -> frozenset[int]:
    return frozenset(map(int, text.split(",")))


if __name__ == "__main__":
    sys.exit(main())
