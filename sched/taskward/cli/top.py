"""`taskward top`: what the service is doing, drawn again every few seconds. It asks the API and needs nothing else."""

import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from taskward.cli.remote import ApiAway, Remote
from taskward.cli.task_text import aligned, printable

Answer = Mapping[str, Any]
Row = tuple[str, ...]
NONE = "-"
HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def run(api: Remote, *, every: float, once: bool) -> int:
    """Draw until Ctrl-C; once where that is asked for, or nobody watches. -> the exit code. Raises RequestFailed."""
    if once or not sys.stdout.isatty():
        print("\n".join(map(printable, _look(api))))
        return 0
    seen: list[str] = []
    try:
        while True:
            try:
                seen, note = _look(api), ""
            except ApiAway as exc:
                note = f"{time.strftime('%H:%M:%S')}  {exc}"
            _draw([note, "", *seen] if note else seen)
            time.sleep(every)
    except KeyboardInterrupt:
        print()
        return 0


def _look(api: Remote) -> list[str]:
    queues, summary, workers = (api.call("GET", path) for path in ("/queues", "/metrics/summary", "/workers"))
    return [*lines_of(queues["queues"], summary, workers["workers"])]


def _draw(lines: Iterable[str]) -> None:
    width, height = shutil.get_terminal_size()
    shown = [printable(line)[:width] for line in lines][: height - 1]
    print(HOME + "".join(f"{line}{REST_OF_LINE}\n" for line in shown) + REST_OF_SCREEN, end="", flush=True)


def lines_of(queues: Iterable[Answer], summary: Answer, workers: Iterable[Answer]) -> Iterator[str]:
    """The answers of GET /queues, /metrics/summary and /workers as lines, the busiest types and workers first."""
    of_workers = summary["workers"]
    yield (
        f"{_rate(summary)}/s ended, {_share(summary)} failed, p95 {_seconds(summary['p95_run_seconds'])}, "
        f"{of_workers['busy']} of {of_workers['slots']} slots busy, {of_workers['live']} live workers"
        + (f"; sampled {summary['age_seconds'] or 0:.0f} s ago" if summary["stale"] else "")
    )
    types = sorted(summary["types"].items(), key=lambda item: -(item[1]["throughput_per_second"] or 0.0))
    busiest = sorted(workers, key=lambda worker: -worker["report"].get("busy", 0))
    yield from _table(("priority", "queued", "oldest", "scheduled", "retrying", "dead", ""), map(_queue, queues))
    yield from _table(("type", "ended/s", "failed", "p95"), (_type(name, of) for name, of in types))
    yield from _table(("worker", "busy", "slots", "heard", ""), map(_worker, busiest))


def _table(head: Row, rows: Iterable[Row]) -> list[str]:
    """Below an empty line; nothing where there are no rows."""
    found = list(rows)
    return ["", *aligned([head, *found], left=1)] if found else []


def _queue(queue: Answer) -> Row:
    counts = (str(queue[name]) for name in ("scheduled", "retrying", "dead"))
    oldest = _seconds(queue["oldest_queued_age_seconds"])
    return (queue["priority"], str(queue["queued"]), oldest, *counts, "paused" if queue["paused"] else "")


def _type(name: str, of: Answer) -> Row:
    return (name, _rate(of), _share(of), _seconds(of["p95_run_seconds"]))


def _worker(worker: Answer) -> Row:
    report, silent = worker["report"], worker["silent_seconds"]
    said = "" if worker["live"] else "silent"
    if worker["live"] and report.get("draining"):
        said = "draining"
    busy = report.get("busy", NONE) if worker["live"] else NONE
    return (worker["id"], str(busy), str(report.get("concurrency", NONE)), f"{silent:.0f} s", said)


def _rate(of: Answer) -> str:
    rate = of["throughput_per_second"]
    return NONE if rate is None else f"{rate:,.1f}"


def _share(of: Answer) -> str:
    ratio = of["failure_ratio"]
    return NONE if ratio is None else f"{ratio:.1%}"


def _seconds(seconds: float | None) -> str:
    return NONE if seconds is None else f"{seconds:,.3f} s" if seconds < 1 else f"{seconds:,.1f} s"
