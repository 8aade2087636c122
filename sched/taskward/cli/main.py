"""The command `taskward`: its words, and how its errors look."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from taskward import __version__
from taskward.cli import tasks
from taskward.config import Config
from taskward.errors import ConfigError, TaskwardError

EXAMPLES = """\
examples:
  taskward dev                                      server, API and worker on this machine, with the example handlers
  taskward submit echo '{"hello": "world"}' --wait 5
  taskward list --state dead
  taskward dlq redrive --type http.request --dry-run
  REDIS_URL=redis://db:6379 taskward worker --app shop.tasks:app

Settings come from the environment; `taskward check` lists them. Exit codes: 0 done, 1 it failed, 2 asked wrongly.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. -> the exit code; what Taskward raises on purpose becomes one line, never a traceback."""
    try:
        options = build_parser().parse_args(argv)
        code = int(options.run(options))
        sys.stdout.flush()  # while somebody can still be told that it cannot be written
    except (TaskwardError, KeyboardInterrupt, BaseExceptionGroup) as exc:
        return _report(exc)
    except BrokenPipeError:  # `taskward list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def build_parser() -> argparse.ArgumentParser:
    """Every command with its options; `run` in the result is the function that carries it out."""
    parser = argparse.ArgumentParser(
        prog="taskward",
        description="A task scheduler: HTTP in, Redis in the middle, Trio workers out, everything visible.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"taskward {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_dev(commands)
    _add("api", commands, _api, "serve the HTTP API (API_ADDR) and its metrics (METRICS_ADDR)")
    worker = _add("worker", commands, _worker, "run tasks, and serve the worker's metrics (METRICS_ADDR)")
    worker.add_argument("--app", metavar="MODULE:NAME", required=True, help="the App with the handlers")
    tasks.add_commands(commands)
    check = _add(
        "check", commands, _check, "print the effective settings, and whether they and Redis let a process start"
    )
    check.add_argument("--store", action="store_true", help="audit the store: is every task in exactly one place?")
    check.add_argument("--repair", action="store_true", help="with --store: mend what is safe to mend")
    bench = _add("bench", commands, _bench, "measure this installation, in a queue of its own that is removed again")
    bench.add_argument("--tasks", type=int, metavar="N", default=20_000, help="no-op tasks (%(default)s)")
    bench.add_argument("--samples", type=int, metavar="N", default=200, help="tasks one at a time (%(default)s)")
    _add("version", commands, _version, "print the version")
    return parser


def _add_dev(commands: tasks.Commands) -> None:
    dev = _add("dev", commands, _dev, "run everything on this machine: a server of its own, API and worker")
    dev.description = (
        "Starts an embedded Valkey (unless REDIS_URL is set), the API and a worker, each as its own process. "
        "If one ends, all are stopped. Ctrl-C stops them in order; twice kills them."
    )
    dev.add_argument("--app", metavar="MODULE:NAME", default="examples.app:app", help="the handlers (%(default)s)")
    dev.add_argument("--data", metavar="DIR", type=Path, default=".taskward", help="the server's data (%(default)s)")
    dev.add_argument("--api-addr", metavar="ADDR", help="where the API listens (API_ADDR, or :8080)")
    dev.add_argument("--api-metrics", metavar="ADDR", help="the API's scrape address (METRICS_ADDR, or :2112)")
    dev.add_argument("--worker-metrics", metavar="ADDR", default=":2113", help="the worker's (%(default)s)")


def _add(name: str, commands: tasks.Commands, run: tasks.Run, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(run=run)
    return command


# Imported where used: `taskward submit` does not wait for Trio, and `taskward api` not for the worker.


def _dev(options: argparse.Namespace) -> int:
    from taskward.cli import dev

    return dev.run(options, os.environ)


def _api(_options: argparse.Namespace) -> int:
    config = Config.from_env(os.environ)
    from taskward.cli import api

    return api.run(config)


def _worker(options: argparse.Namespace) -> int:
    config = Config.from_env(os.environ)
    from taskward.cli import worker

    if str(Path.cwd()) not in sys.path:  # the installed command does not look for modules here, `python -m` does
        sys.path.insert(0, str(Path.cwd()))
    return worker.run(config, options.app)


def _check(options: argparse.Namespace) -> int:
    from taskward.cli import check

    return check.run(Config.from_env(os.environ), store=options.store, repair=options.repair)


def _bench(options: argparse.Namespace) -> int:
    from taskward.cli import bench

    return bench.run(Config.from_env(os.environ), tasks=options.tasks, samples=options.samples)


def _version(_options: argparse.Namespace) -> int:
    print(f"taskward {__version__}")
    return 0


def _report(exc: BaseException) -> int:
    errors = list(_leaves(exc))
    if all(isinstance(error, KeyboardInterrupt) for error in errors):
        return 130
    if not all(isinstance(error, TaskwardError) for error in errors):
        raise exc
    for error in dict.fromkeys(map(str, errors)):
        print(f"taskward: {error}", file=sys.stderr)
    return 2 if any(isinstance(error, ConfigError) for error in errors) else 1


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    if not isinstance(exc, BaseExceptionGroup):
        yield exc
        return
    for inner in exc.exceptions:
        yield from _leaves(inner)
