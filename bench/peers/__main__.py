"""`python -m bench.peers`: Taskward and its peers at the same work in one sitting, as one table."""

import argparse
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from os import getloadavg
from pathlib import Path

from bench.calibration import Calibration, calibrate, machine
from bench.peers.driver import Peer
from bench.peers.install import FOLDER, Unavailable, install, versions
from bench.processes import ROOT
from bench.report import markdown, number, spread, write_section
from bench.server import Server, server

LATENCIES = 200
QUEUED = 5000
# Column -> the figure's place in the table.
NOOP_10, NOOP_100, SLEEPS = "no-op/s, conc. 10", "no-op/s, conc. 100", "10 ms sleeps/s, conc. 100"
SINGLE, BULK, HTTP = "submits/s, one client", "bulk submits/s", "HTTP submits/s, 32 conn."
P50, P99, BYTES = "idle submit to start, p50 ms", "p99 ms", "server bytes a queued task"
PINNED_10, PINNED_100 = "no-op/s, conc. 10, pinned", "no-op/s, conc. 100, pinned"
COLUMNS = (NOOP_10, NOOP_100, PINNED_10, PINNED_100, SLEEPS, SINGLE, BULK, HTTP, P50, P99, BYTES)


class Book:
    """What has been read of one peer."""

    def __init__(self) -> None:
        self.figures: dict[str, list[float]] = defaultdict(list)
        self.calibrations: list[Calibration] = []
        self.trouble: dict[str, str] = {}
        self.kill = "-"

    def cell(self, column: str) -> str:
        """Median and range, or - where it cannot be had."""
        values = [value for value in self.figures[column] if value == value]
        if not values:
            return "failed" if column in self.trouble else "-"
        middle = number(statistics.median(values))
        return middle if len(values) == 1 else f"{middle} ({spread(values)})"


def main(argv: Sequence[str] | None = None) -> int:
    """Install, run, print. -> 0; a peer that cannot be had is a line of the table, not a failure."""
    options = _parser().parse_args(argv)
    books = {name: Book() for name in options.peers or versions()}
    peers = [name for name in books if _installed(name, books[name])]
    if options.install:
        return 0
    with tempfile.TemporaryDirectory(dir=_folder()) as folder, ExitStack() as servers:
        on = servers.enter_context(server(FOLDER / "data"))
        head = _head(on, options)
        print(*head, sep="\n", flush=True)
        drivers = [Peer(name, on, Path(folder), seconds=options.seconds) for name in peers]
        for n in range(1, options.runs + 1):
            for peer in drivers:
                print(f"run {n} of {options.runs}: {peer.name}", flush=True)
                _run(peer, books[peer.name], on, cpus=options.pin, first=n == 1)
        _kill_all(peers, books, Path(folder), patience=options.patience)
        lines = [*_table(books, pinned=bool(options.pin)), "", *_notes(drivers, books)]
    print("", *lines, sep="\n")
    if options.markdown:
        write_section(options.markdown, "bench:peers", ["", *head, "", *lines, ""])
    return 0


def _installed(name: str, book: Book) -> bool:
    try:
        install(name)
    except Unavailable as exc:
        book.trouble["installation"] = str(exc)
        return False
    return True


def _run(peer: Peer, book: Book, on: Server, *, cpus: frozenset[int], first: bool) -> None:
    if (first and not _warm(peer, book)) or "start" in book.trouble:
        return
    book.calibrations.append(calibrate(on.url))
    figures: list[tuple[tuple[str, ...], Callable[[], float | tuple[float, ...]]]] = [
        ((NOOP_10,), lambda: peer.rate("noop", 10)),
        ((NOOP_100,), lambda: peer.rate("noop", 100)),
        ((SLEEPS,), lambda: peer.rate("sleep10", 100)),
        ((SINGLE,), peer.single),
        ((BULK,), peer.bulk),
        ((HTTP,), peer.http),
        ((P50, P99), lambda: peer.latency(LATENCIES)),
    ]
    if cpus:
        figures += [
            ((PINNED_10,), lambda: peer.rate("noop", 10, cpus=cpus)),
            ((PINNED_100,), lambda: peer.rate("noop", 100, cpus=cpus)),
        ]
    if first:
        figures.append(((BYTES,), lambda: peer.bytes_per_task(QUEUED)))
    for columns, measure in figures:
        if columns[0] in book.trouble:
            continue  # once is enough
        try:
            read = measure()
        except (Unavailable, RuntimeError) as exc:
            print(f"  {peer.name}, {columns[0]}: {exc}", file=sys.stderr, flush=True)
            book.trouble[columns[0]] = str(exc)
            continue
        for column, value in zip(columns, read if isinstance(read, tuple) else (read,), strict=True):
            book.figures[column].append(value)


def _warm(peer: Peer, book: Book) -> bool:
    try:
        peer.warm()
    except (Unavailable, RuntimeError) as exc:
        book.trouble["start"] = str(exc)
        return False
    return True


def _kill_all(peers: Sequence[str], books: dict[str, Book], folder: Path, *, patience: float) -> None:
    """All at once, each on a server of its own: nothing here is a matter of speed."""
    print(f"kill -9 of every worker, {patience:g} s to come back", flush=True)

    def kill(name: str) -> str:
        with server(FOLDER / "data") as on:
            try:
                return Peer(name, on, folder, seconds=1.0).kill(patience=patience)
            except (Unavailable, RuntimeError) as exc:
                books[name].trouble["kill"] = str(exc)
                return "failed"

    with ThreadPoolExecutor(max_workers=len(peers) or 1) as threads:
        for name, outcome in zip(peers, threads.map(kill, peers), strict=True):
            books[name].kill = outcome


def _table(books: dict[str, Book], *, pinned: bool) -> list[str]:
    columns = [column for column in COLUMNS if pinned or column not in (PINNED_10, PINNED_100)]
    rows = [("", *columns, "kill -9 of the worker", "round trips/s", "loop, M/s")]
    for name, book in books.items():
        if not book.calibrations:
            rows.append((name, "not to be had here", *[""] * (len(rows[0]) - 2)))
            continue
        rows.append(
            (
                name,
                *map(book.cell, columns),
                book.kill,
                spread([c.round_trips for c in book.calibrations]),
                spread([c.loops for c in book.calibrations]),
            )
        )
    return markdown(rows)


def _notes(peers: Sequence[Peer], books: dict[str, Book]) -> list[str]:
    installed = versions()
    lines = [f"- {peer.name} ({', '.join(installed[peer.name]) or 'this checkout'}): {peer.note()}" for peer in peers]
    for name, book in books.items():
        lines += [f"- {name}, {what}: {_plain(why)}" for what, why in book.trouble.items()]
    return lines


def _plain(text: str) -> str:
    return " ".join(text.replace(f"{ROOT}/", "").split())[:300]


def _head(on: Server, options: argparse.Namespace) -> list[str]:
    pinned = f"; pinned: the worker on CPU {','.join(map(str, sorted(options.pin)))}" if options.pin else ""
    return [
        f"{datetime.now(UTC):%Y-%m-%d}: {machine()}, {on.version} on loopback without persistence, load before "
        f"{getloadavg()[0]:.1f}. Median (range) of {options.runs} runs of about {options.seconds:g} s each{pinned}.",
    ]


def _folder() -> Path:
    FOLDER.mkdir(parents=True, exist_ok=True)
    return FOLDER


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("peers", nargs="*", metavar="PEER", type=_name, help=f"of {', '.join(versions())}; all if none")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of everything (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="about how long a figure takes")
    parser.add_argument(
        "--patience", type=float, default=120.0, metavar="S", help="how long killed tasks are waited for"
    )
    parser.add_argument(
        "--pin", type=_cpus, default=frozenset(), metavar="CPUS", help="no-ops also with the worker there: 1 or 0,1"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also put the table into its place in FILE")
    parser.add_argument("--install", action="store_true", help="only install")
    return parser


def _name(text: str) -> str:
    if text not in versions():
        raise argparse.ArgumentTypeError(f"no peer {text!r}; there are {', '.join(versions())}")
    return text


def _cpus(text: str) -> frozenset[int]:
    return frozenset(map(int, text.split(",")))


if __name__ == "__main__":
    sys.exit(main())
