"""`taskward top`: what it shows, once and on a terminal, and what it does while nobody answers."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from taskward.cli.main import main
from taskward.cli.top import lines_of
from tests.cli.stub_api import GONE

RATES = {"throughput_per_second": 1234.5, "failure_ratio": 0.125, "p95_run_seconds": 0.0123}
QUEUE = {"queued": 7, "scheduled": 1, "retrying": 2, "dead": 30, "oldest_queued_age_seconds": 61.0, "paused": False}
EMPTY = dict.fromkeys(QUEUE, 0) | {"oldest_queued_age_seconds": None, "paused": True}
QUEUES = [{"priority": "high", **EMPTY}, {"priority": "default", **QUEUE}]
WORKERS = [
    {"id": "w-idle", "live": True, "silent_seconds": 0.4, "report": {"busy": 0, "concurrency": 100, "draining": True}},
    {"id": "w-busy", "live": True, "silent_seconds": 1.2, "report": {"busy": 12, "concurrency": 100}},
    {"id": "w-gone", "live": False, "silent_seconds": 600.0, "report": {}},
]
NOBODY = {"throughput_per_second": None, "failure_ratio": None, "p95_run_seconds": None}


def summary(**changes):
    of_workers = {"live": 2, "slots": 200, "busy": 12}
    return RATES | {"workers": of_workers, "stale": False, "age_seconds": 0.1, "types": {}} | changes


def test_it_shows_depths_rates_and_workers():
    types = {"rare": RATES | {"throughput_per_second": 0.5}, "often": RATES, "never": NOBODY}
    assert list(lines_of(QUEUES, summary(types=types), WORKERS)) == [
        "1,234.5/s ended, 12.5% failed, p95 0.012 s, 12 of 200 slots busy, 2 live workers",
        "",
        "priority  queued  oldest  scheduled  retrying  dead",
        "high           0       -          0         0     0  paused",
        "default        7  61.0 s          1         2    30",
        "",
        "type   ended/s  failed      p95",
        "often  1,234.5   12.5%  0.012 s",
        "rare       0.5   12.5%  0.012 s",
        "never        -       -        -",
        "",
        "worker  busy  slots  heard",
        "w-busy    12    100    1 s",
        "w-idle     0    100    0 s  draining",
        "w-gone     -      -  600 s    silent",
    ]


def test_a_service_that_has_done_nothing_yet_is_shown_too():
    nothing = NOBODY | {"workers": {"live": 0, "slots": 0, "busy": 0}}
    assert list(lines_of(QUEUES[:1], summary(**nothing), [])) == [
        "-/s ended, - failed, p95 -, 0 of 0 slots busy, 0 live workers",
        "",
        "priority  queued  oldest  scheduled  retrying  dead",
        "high           0       -          0         0     0  paused",
    ]


def test_an_old_sample_is_called_old():
    first, *_ = lines_of(QUEUES, summary(stale=True, age_seconds=12.3), [])
    assert first.endswith("; sampled 12 s ago")


@pytest.fixture
def serving(api):
    api.answers |= {
        ("GET", "/queues"): (200, {"queues": QUEUES}),
        ("GET", "/metrics/summary"): (200, summary()),
        ("GET", "/workers"): (200, {"workers": WORKERS}),
    }
    return api


@pytest.mark.parametrize("words", [["--once"], []])
def test_it_looks_once_where_that_is_asked_for_or_nobody_watches(serving, capsys, words):
    assert main(["top", *words]) == 0
    assert capsys.readouterr().out.splitlines() == [*lines_of(QUEUES, summary(), WORKERS)]
    assert len(serving.asked) == 3


def test_an_api_that_refuses_or_is_away_is_one_line(serving, capsys):
    serving.answers["GET", "/queues"] = (401, {"title": "no token"})
    assert main(["top"]) == 1
    serving.answers["GET", "/queues"] = (GONE, None)
    assert main(["top", "--once"]) == 1
    refused, away = capsys.readouterr().err.splitlines()
    assert refused == "taskward: no token (401): set TASKWARD_TOKEN to a token of this API"
    assert away.startswith("taskward: no answer from http://127.0.0.1:")


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, *words, columns=100, lines=30):
        self.shown = ""
        self._ours, theirs = pty.openpty()
        size = {"COLUMNS": str(columns), "LINES": str(lines)}
        command = [sys.executable, "-m", "taskward", *words]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | size)
        os.close(theirs)

    def until(self, text):
        """Read until it has been shown; what came before it is dropped."""
        while text not in self.shown:
            self.shown += os.read(self._ours, 65536).decode()
        before, _, self.shown = self.shown.partition(text)
        return before

    def close(self):
        self.process.send_signal(signal.SIGINT)
        os.set_blocking(self._ours, False)
        code = self.process.wait(10)
        os.close(self._ours)
        return code


def test_on_a_terminal_it_looks_again_and_again_until_ctrl_c(serving):
    terminal = Terminal("top", "--every", "0.05")
    terminal.until("default        7")
    serving.answers["GET", "/queues"] = (200, {"queues": [{"priority": "default", **QUEUE, "queued": 8}]})
    assert "Traceback" not in terminal.until("default        8")
    assert terminal.close() == 0


def test_while_nobody_answers_it_says_so_above_what_it_saw_last(serving):
    terminal = Terminal("top", "--every", "0.05")
    terminal.until("default        7")
    serving.answers["GET", "/workers"] = (503, {"detail": "Redis is not reachable"})
    terminal.until("Redis is not reachable (503)")
    terminal.until("default        7")
    serving.answers["GET", "/workers"] = (200, {"workers": WORKERS})
    terminal.until("\x1b[H1,234.5/s ended")
    assert terminal.close() == 0


def test_no_line_is_wider_than_the_terminal_and_none_below_its_end(serving):
    terminal = Terminal("top", "--every", "0.05", columns=40, lines=5)
    terminal.until("\x1b[H")
    drawn = terminal.until("\x1b[J").replace("\x1b[K", "").split("\r\n")
    assert terminal.close() == 0
    assert [len(line) <= 40 for line in drawn] == [True] * 5
    assert drawn[-1] == ""


def test_what_others_have_named_cannot_move_the_cursor(serving, capsys):
    serving.answers["GET", "/workers"] = (200, {"workers": [WORKERS[0] | {"id": "w\x1b[2J"}]})
    assert main(["top", "--once"]) == 0
    assert "w\\x1b[2J" in capsys.readouterr().out
    terminal = Terminal("top", "--every", "0.05")
    terminal.until("w\\x1b[2J")
    assert terminal.close() == 0
