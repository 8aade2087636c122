"""What the API answers as text for people. Pure; what a handler wrote cannot move the terminal's cursor."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

LABEL_WIDTH = 12
TIMES = ("created_at", "run_at", "queued_at", "started_at", "finished_at", "expires_at", "deadline")
Fields = Mapping[str, Any]


def lines_of(task: Fields) -> list[str]:
    """The body of GET /tasks/{id} as lines: what is set of its fields, the last error, then its attempts."""
    lines = [f"{label:<{LABEL_WIDTH}}{printable(text)}" for label, text in _facts(task) if text]
    if error := task.get("last_error"):
        lines += ["", "last error"]
        lines += [f"  {printable(line)}" for line in (error.get("traceback") or _summary(error)).splitlines()]
    if attempts := task.get("attempts"):
        lines += ["", "attempts"]
        lines += [f"  {printable(_attempt(attempt))}" for attempt in attempts]
    return lines


def _facts(task: Fields) -> Iterator[tuple[str, str]]:
    for name in ("id", "state", "type", "priority"):
        yield name, str(task.get(name, ""))
    most = task.get("max_attempts")
    yield "attempt", f"{task.get('attempt', 0)}" + (f" of {most}" if most else "")
    for name in TIMES:
        yield name.removesuffix("_at").replace("_", " "), task.get(name) or ""
    yield "tags", ", ".join(task.get("tags") or ())
    yield "worker", task.get("worker_id") or ""
    yield "cancelled by", task.get("cancel_cause") or ""
    yield "progress", _progress(task.get("progress"))
    yield "payload", _json(task.get("payload"))
    if task.get("state") == "succeeded":
        yield "result", _json(task.get("result"))


def _progress(progress: Fields | None) -> str:
    if not progress:
        return ""
    total, message = progress.get("total"), progress.get("message")
    return (
        f"{progress['current']:g}"
        + (f" of {total:g}" if total is not None else "")
        + (f" {message}" if message else "")
    )


def _attempt(attempt: Fields) -> str:
    seconds = (_moment(attempt["finished_at"]) - _moment(attempt["started_at"])).total_seconds()
    said = [attempt.get("cancel_cause") or "", _summary(attempt["error"]) if attempt.get("error") else ""]
    ended = (
        f"{attempt['n']:>2}  {attempt['outcome']:<9}  {attempt['started_at']}  {seconds:.3f} s  {attempt['worker_id']}"
    )
    return "  ".join([ended, *(text for text in said if text)])


def _summary(error: Fields) -> str:
    return f"{error['type']}: {error['message']}" if error.get("message") else str(error["type"])


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def aligned(rows: Iterable[Sequence[str]], *, left: int | None = None) -> list[str]:
    """Lines with a row each, columns as wide as what is in them; from number `left` on, numbers: to the right."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = [str.ljust if left is None or n < left else str.rjust for n in range(len(widths))]
    return [
        "  ".join(side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True)).rstrip()
        for row in rows
    ]


def printable(text: str) -> str:
    """Without what would move a terminal's cursor."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
