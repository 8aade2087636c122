"""The commands that ask the API: submit, get, cancel, list, dlq, top."""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias
from urllib.parse import quote

import msgspec

from taskward.cli import top
from taskward.cli.remote import CALL_SECONDS, ApiAway, Remote, RequestFailed
from taskward.cli.task_text import aligned, lines_of
from taskward.errors import ConfigError

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no other name
Run = Callable[[argparse.Namespace], int]

DEFAULT_URL = "http://127.0.0.1:8080"
# Who watches wants to see that nobody answers.
LOOK_SECONDS = 5.0
# The longest the API waits in one request.
LONGEST_WAIT_SECONDS = 60.0
# Before it is asked again where it answered sooner than it was asked to: it is being restarted.
PAUSE_SECONDS = 0.2
COLUMNS = ("id", "state", "type", "priority", "attempt", "created_at")
SUBMIT_EXAMPLES = """\
examples:
  taskward submit echo '{"hello": "world"}' --wait 5
  taskward submit sleep '{"seconds": 3}' --priority high --delay 10
  jq '{url: .hook}' order.json | taskward submit http.request - --idempotency-key order-17
"""


def add_commands(commands: Commands) -> None:
    """Add the parsers of these commands."""
    _add_submit(commands)
    get = _add("get", commands, _get, "print a task with its result, attempts and errors")
    get.add_argument("id", metavar="ID")
    get.add_argument("--json", action="store_true", help="the whole task as JSON")
    _add("cancel", commands, _cancel, "ask a task to stop, or never to start").add_argument("id", metavar="ID")
    _add_list(commands)
    dlq = commands.add_parser("dlq", help="the tasks given up on", description="The tasks given up on.")
    words = dlq.add_subparsers(title="commands", metavar="COMMAND", required=True)
    dead = _add("list", words, _list, "list dead tasks")
    dead.set_defaults(state="dead")
    dead.add_argument("--priority", metavar="NAME")
    _add_paging(dead)
    redrive = _add("redrive", words, _redrive, "put dead tasks back into their queue")
    redrive.add_argument("--type", metavar="TYPE", help="only tasks of this type")
    redrive.add_argument("--priority", metavar="NAME", help="only tasks of this priority")
    redrive.add_argument("--limit", type=int, metavar="N", help="at most so many")
    redrive.add_argument("--dry-run", action="store_true", help="only say how many it would be")
    redrive.add_argument("--per-second", type=_number, metavar="N", help="start so many a second, not all at once")
    redrive.add_argument(
        "--canary", type=int, metavar="N", help="so many first, the rest only if none of them fails; exit 1 if it stays"
    )
    redrive.add_argument("--canary-failures", type=int, metavar="N", help="so many of the first may fail")
    redrive.add_argument("--canary-seconds", type=_number, metavar="S", help="so long they may take, 60 at most")
    watch = _add("top", commands, _top, "watch depths, rates and workers until Ctrl-C")
    watch.add_argument("--every", type=_number, metavar="S", default=2.0, help="seconds between looks (%(default)g)")
    watch.add_argument("--once", action="store_true", help="print one look, as where the output is no terminal")


def _add_submit(commands: Commands) -> None:
    submit = _add("submit", commands, _submit, "submit a task and print its id")
    submit.epilog = SUBMIT_EXAMPLES
    submit.formatter_class = argparse.RawDescriptionHelpFormatter
    submit.add_argument("type", metavar="TYPE", help="which handler runs it, e.g. echo")
    submit.add_argument("payload", metavar="PAYLOAD", nargs="?", help="JSON; - reads it from stdin")
    submit.add_argument("--priority", metavar="NAME", help="high, default or low where the server names no others")
    submit.add_argument("--delay", type=_number, dest="delay_seconds", metavar="S", help="start in so many seconds")
    submit.add_argument("--run-at", metavar="TIME", help="start at this moment, e.g. 2030-01-01T08:00:00Z")
    submit.add_argument("--expires-at", metavar="TIME", help="do not start after this moment")
    submit.add_argument("--deadline", metavar="TIME", help="must be finished by this moment")
    submit.add_argument("--timeout", type=_number, dest="timeout_seconds", metavar="S", help="one attempt's time")
    submit.add_argument("--max-attempts", type=int, metavar="N", help="how often it may be tried")
    submit.add_argument("--idempotency-key", metavar="KEY", help="submitting the key again gives the same task")
    submit.add_argument("--tag", action="append", dest="tags", metavar="TAG", help="may be given more than once")
    submit.add_argument("--id", metavar="ID", help="the task's id, instead of a new one")
    submit.add_argument(
        "--wait",
        type=_number,
        metavar="S",
        help="wait so long for its end and print the task; exit 1 unless it succeeded",
    )
    submit.add_argument("--json", action="store_true", help="print the API's answer as JSON")


def _number(text: str) -> float:
    """An option's value: JSON knows neither infinity nor NaN."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"invalid number: {text!r} (0 or more, and finite)")
    return value


def _add_list(commands: Commands) -> None:
    listing = _add("list", commands, _list, "list tasks")
    listing.add_argument("--state", help="scheduled, queued, running, retrying, succeeded, dead ...")
    listing.add_argument("--priority", metavar="NAME")
    _add_paging(listing)


def _add_paging(listing: argparse.ArgumentParser) -> None:
    listing.add_argument("--type", metavar="TYPE")
    listing.add_argument("--limit", type=int, metavar="N", help="tasks a page")
    listing.add_argument("--page-token", metavar="TOKEN", help="go on where the last page ended")
    listing.add_argument("--json", action="store_true", help="the whole answer as JSON")


def _add(name: str, commands: Commands, run: Run, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(run=run)
    command.add_argument(
        "--url",
        default=os.environ.get("TASKWARD_URL", DEFAULT_URL),
        help="the API (TASKWARD_URL, or %(default)s); TASKWARD_TOKEN is the token, where it asks for one",
    )
    return command


def _submit(options: argparse.Namespace) -> int:
    api = _remote(options)
    submitted = api.call("POST", "/tasks", body=submission(options))
    if options.wait is None:
        _print_json(submitted) if options.json else print(submitted["id"])
        return 0
    try:
        task = _wait(api, submitted["id"], seconds=options.wait)
    except RequestFailed as exc:
        raise RequestFailed(f"{submitted['id']} is submitted, but cannot be looked at: {exc}") from None
    except KeyboardInterrupt:
        print(f"taskward: {submitted['id']} is submitted", file=sys.stderr)
        raise
    _print_task(task, as_json=options.json)
    if not task["terminal"]:
        print(f"taskward: {task['id']} is still {task['state']} after {options.wait:g} s", file=sys.stderr)
    return 0 if task["state"] == "succeeded" else 1


def submission(options: argparse.Namespace) -> dict[str, Any]:
    """The body for POST /tasks: only what was said. Raises ConfigError where the payload is not JSON."""
    fields = {name: getattr(options, name) for name in _SUBMITTED if getattr(options, name) is not None}
    if options.payload is not None:
        fields["payload"] = _json(options.payload)
    return fields


_SUBMITTED = (
    *("type", "priority", "delay_seconds", "run_at", "expires_at", "deadline", "timeout_seconds", "max_attempts"),
    *("idempotency_key", "tags", "id"),
)


def _json(payload: str) -> msgspec.Raw:
    try:
        text = (sys.stdin.read() if payload == "-" else payload).encode()
        msgspec.json.decode(text)
    except UnicodeError:
        raise ConfigError("PAYLOAD is not UTF-8") from None
    except msgspec.DecodeError as exc:
        raise ConfigError(f"PAYLOAD is not JSON ({exc}); a text needs its quotes: '\"like this\"'") from None
    return msgspec.Raw(text)


def _wait(api: Remote, task_id: str, *, seconds: float) -> dict[str, Any]:
    """The task at its end, or as it is after `seconds`. Raises ApiAway where nobody answers then; RequestFailed."""
    end = time.monotonic() + seconds
    while True:
        left = max(0.0, end - time.monotonic())
        asked = min(left, LONGEST_WAIT_SECONDS)
        again = time.monotonic() + min(asked, PAUSE_SECONDS)
        try:
            task: dict[str, Any] = api.call("GET", _path(task_id), query={"wait": f"{asked:.3f}"})
            if task["terminal"] or time.monotonic() >= end:
                return task
        except ApiAway:
            if time.monotonic() >= end:
                raise
        time.sleep(max(0.0, again - time.monotonic()))


def _get(options: argparse.Namespace) -> int:
    _print_task(_remote(options).call("GET", _path(options.id)), as_json=options.json)
    return 0


def _cancel(options: argparse.Namespace) -> int:
    answer = _remote(options).call("POST", _path(options.id) + "/cancel")
    print(answer.get("state", "asked") if isinstance(answer, dict) else "asked")
    return 0


def _list(options: argparse.Namespace) -> int:
    query = {name: getattr(options, name) for name in ("state", "type", "priority", "limit", "page_token")}
    page = _remote(options).call("GET", "/tasks", query=query)
    if options.json:
        _print_json(page)
        return 0
    for line in table(page["tasks"]):
        print(line)
    if page.get("next_page_token"):
        print(f"more: --page-token {page['next_page_token']}", file=sys.stderr)
    return 0


def table(tasks: Iterable[Mapping[str, Any]]) -> list[str]:
    """Lines with one task each, under a head."""
    return aligned([COLUMNS, *(tuple(str(task.get(name, "")) for name in COLUMNS) for task in tasks)])


def _redrive(options: argparse.Namespace) -> int:
    chosen = {name: getattr(options, name) for name in _REDRIVEN}
    body = {name: value for name, value in chosen.items() if value is not None} | {"dry_run": options.dry_run}
    answer = _remote(options).call("POST", "/dlq/redrive", body=body)
    _print_json(answer)
    if answer["stopped"]:
        print("taskward: the first ones have not all succeeded, so the rest stays where it is", file=sys.stderr)
    return int(answer["stopped"])


_REDRIVEN = ("type", "priority", "limit", "per_second", "canary", "canary_failures", "canary_seconds")


def _top(options: argparse.Namespace) -> int:
    return top.run(_remote(options, seconds=LOOK_SECONDS), every=options.every, once=options.once)


def _remote(options: argparse.Namespace, *, seconds: float = CALL_SECONDS) -> Remote:
    try:
        msgspec.json.encode([value for value in vars(options).values() if not callable(value)])
    except UnicodeError:
        raise ConfigError("an argument is not UTF-8") from None
    return Remote(options.url, token=os.environ.get("TASKWARD_TOKEN", ""), seconds=seconds)


def _path(task_id: str) -> str:
    return f"/tasks/{quote(task_id, safe='')}"


def _print_task(task: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        _print_json(task)
        return
    for line in lines_of(task):
        print(line)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
