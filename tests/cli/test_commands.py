"""The command line: its words, what it sends, what it prints, and its exit codes."""

import io
import json
import os
import subprocess
import sys
from unittest.mock import Mock

import pytest

from taskward import __version__
from taskward.broker.broker import Broker
from taskward.broker.embedded import free_port
from taskward.cli import main as cli
from taskward.cli.main import build_parser, main
from taskward.cli.remote import describe_problem
from taskward.cli.task_text import lines_of
from taskward.cli.tasks import submission, table
from taskward.errors import BrokerUnavailable, ConfigError
from tests.cli.stub_api import GONE

TASK = {"id": "t1", "state": "succeeded", "terminal": True, "type": "echo", "priority": "low", "attempt": 1}


def test_submit_sends_what_was_said_and_prints_the_id(api, capsys, monkeypatch):
    monkeypatch.setenv("TASKWARD_TOKEN", "secret")
    api.answers["POST", "/tasks"] = (202, {"id": "t1", "state": "queued"})
    words = ["--priority", "high", "--delay", "2.5", "--max-attempts", "3", "--tag", "a", "--tag", "b", "--id", "t1"]
    assert main(["submit", "echo", '{"n": 1}', *words]) == 0
    sent = {"priority": "high", "delay_seconds": 2.5, "max_attempts": 3, "tags": ["a", "b"], "id": "t1"}
    assert api.asked == [("POST", "/tasks", {"type": "echo", "payload": {"n": 1}, **sent}, "Bearer secret")]
    assert capsys.readouterr().out == "t1\n"


def test_submit_can_print_the_whole_answer(api, capsys):
    answer = {"id": "t1", "state": "queued", "created": True}
    api.answers["POST", "/tasks"] = (202, answer)
    assert main(["submit", "echo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == answer


def test_submit_reads_a_payload_from_stdin(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO('[1, "é"]'))
    fields = submission(build_parser().parse_args(["submit", "echo", "-"]))
    assert fields["type"] == "echo"
    assert bytes(fields["payload"]).decode() == '[1, "é"]'


@pytest.mark.parametrize(
    ("state", "terminal", "code"), [("succeeded", True, 0), ("dead", True, 1), ("running", False, 1)]
)
def test_submit_that_waits_prints_the_task_and_says_how_it_went(api, capsys, state, terminal, code):
    api.answers["POST", "/tasks"] = (202, {"id": "t1", "state": "queued"})
    api.answers["GET", "/tasks/t1"] = (200, TASK | {"state": state, "terminal": terminal})
    assert main(["submit", "echo", "--wait", "0.01", "--json"]) == code
    said = capsys.readouterr()
    assert json.loads(said.out)["state"] == state
    assert said.err == ("" if terminal else "taskward: t1 is still running after 0.01 s\n")
    assert api.asked[1][1].startswith("/tasks/t1?wait=0.0")
    assert main(["submit", "echo", "--wait", "0.01"]) == code
    assert capsys.readouterr().out.splitlines() == lines_of(TASK | {"state": state})


def test_submit_that_waits_goes_by_the_clock_when_the_api_answers_early_or_not_at_all(api, capsys, monkeypatch):
    monkeypatch.setattr("taskward.cli.tasks.PAUSE_SECONDS", 0.01)
    looks = [(200, TASK | {"state": "running", "terminal": False}), (503, {}), (GONE, None), (200, TASK)]
    api.answers["POST", "/tasks"] = (202, {"id": "t1", "state": "queued"})
    api.answers["GET", "/tasks/t1"] = (200, lambda: looks.pop(0))
    assert main(["submit", "echo", "--wait", "30"]) == 0
    assert not looks
    assert capsys.readouterr().err == ""


def test_submit_that_waits_for_an_api_that_has_gone_says_which_task_it_was(api, capsys):
    api.answers["POST", "/tasks"] = (202, {"id": "t1", "state": "queued"})
    api.answers["GET", "/tasks/t1"] = (503, {"title": "Redis does not answer"})
    assert main(["submit", "echo", "--wait", "0.01"]) == 1
    said = capsys.readouterr().err
    assert said == "taskward: t1 is submitted, but cannot be looked at: Redis does not answer (503)\n"


def test_submit_that_is_interrupted_while_it_waits_says_which_task_it_was(api, capsys, monkeypatch):
    api.answers["POST", "/tasks"] = (202, {"id": "t1", "state": "queued"})
    monkeypatch.setattr("taskward.cli.tasks._wait", Mock(side_effect=KeyboardInterrupt))
    assert main(["submit", "echo", "--wait", "9"]) == 130
    assert capsys.readouterr().err == "taskward: t1 is submitted\n"


@pytest.mark.parametrize("number", ["inf", "nan", "-1", "1e999", "soon"])
@pytest.mark.parametrize("option", ["--delay", "--timeout", "--wait"])
def test_seconds_are_a_finite_number(option, number, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["submit", "echo", f"{option}={number}"])
    assert f"argument {option}: invalid number: '{number}' (0 or more, and finite)" in capsys.readouterr().err


def test_a_401_and_the_help_of_every_command_that_asks_the_api_name_the_token(api, capsys):
    api.answers["GET", "/tasks"] = (401, {"title": "A bearer token is needed"})
    assert main(["list"]) == 1
    said = capsys.readouterr().err
    assert said == "taskward: A bearer token is needed (401): set TASKWARD_TOKEN to a token of this API\n"
    for words in ["submit"], ["get"], ["cancel"], ["list"], ["dlq", "list"], ["dlq", "redrive"]:
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        assert "TASKWARD_TOKEN" in capsys.readouterr().out


def test_white_space_around_a_token_is_no_part_of_it(api, monkeypatch):
    monkeypatch.setenv("TASKWARD_TOKEN", " secret\n")
    api.answers["GET", "/tasks/t1"] = (200, TASK)
    assert main(["get", "t1"]) == 0
    assert api.asked[0][3] == "Bearer secret"


@pytest.mark.parametrize("token", ["sec\nret", "sec\x00ret", "sécret", "sec\udcffret"])
def test_a_token_that_no_header_can_hold_is_refused_and_not_shown(token, capsys, monkeypatch):
    monkeypatch.setattr("os.environ", dict(os.environ) | {"TASKWARD_TOKEN": token})
    assert main(["list"]) == 2
    assert (
        capsys.readouterr().err
        == "taskward: the token (TASKWARD_TOKEN, or token=) holds characters that no token has\n"
    )


@pytest.mark.parametrize(
    "words",
    [["submit", "\udcff"], ["submit", "echo", '"\udcff"'], ["submit", "echo", "--tag", "\udcff"], ["get", "\udcff"]],
)
def test_what_is_not_utf_8_is_asked_wrongly(words, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.endswith(" is not UTF-8\n")
    assert said.count("\n") == 1


def test_get_and_cancel(api, capsys):
    api.answers["GET", "/tasks/a%2Fb"] = (200, TASK)
    api.answers["POST", "/tasks/t1/cancel"] = (202, {"id": "t1", "state": "cancelling"})
    assert main(["get", "a/b"]) == 0
    assert capsys.readouterr().out.splitlines() == lines_of(TASK)
    assert main(["get", "a/b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == TASK
    assert main(["cancel", "t1"]) == 0
    assert capsys.readouterr().out == "cancelling\n"


def test_list_asks_with_its_filters_and_prints_a_table(api, capsys):
    api.answers["GET", "/tasks"] = (200, {"tasks": [TASK], "next_page_token": "abc"})
    assert main(["list", "--state", "succeeded", "--priority", "low", "--limit", "1"]) == 0
    assert api.asked[0][1] == "/tasks?state=succeeded&priority=low&limit=1"
    said = capsys.readouterr()
    assert said.out.splitlines()[1].split() == ["t1", "succeeded", "echo", "low", "1"]
    assert said.err == "more: --page-token abc\n"


def test_list_can_give_all_there_is(api, capsys):
    page = {"tasks": [TASK], "next_page_token": None}
    api.answers["GET", "/tasks"] = (200, page)
    assert main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == page


def test_the_columns_are_as_wide_as_what_is_in_them():
    lines = table([TASK | {"type": "a.long.name"}, TASK])
    assert [line.index("low") for line in lines[1:]] == [lines[0].index("priority")] * 2


def test_the_dlq_can_be_seen_and_emptied(api, capsys):
    api.answers["GET", "/tasks"] = (200, {"tasks": [], "next_page_token": None})
    api.answers["POST", "/dlq/redrive"] = (200, {"redriven": 2, "stopped": False})
    assert main(["dlq", "list", "--type", "echo"]) == 0
    assert main(["dlq", "redrive", "--type", "echo", "--limit", "2", "--dry-run"]) == 0
    assert main(["dlq", "redrive"]) == 0
    assert api.asked[0][1] == "/tasks?state=dead&type=echo"
    assert [asked[2] for asked in api.asked[1:]] == [
        {"type": "echo", "limit": 2, "dry_run": True},
        {"dry_run": False},
    ]
    assert '"redriven": 2' in capsys.readouterr().out


def test_a_redrive_that_its_canary_has_stopped_is_a_failure(api, capsys):
    api.answers["POST", "/dlq/redrive"] = (200, {"redriven": 5, "stopped": True})
    words = ["--canary", "5", "--canary-failures", "1", "--canary-seconds", "2.5", "--per-second", "50"]
    assert main(["dlq", "redrive", *words]) == 1
    [(_, _, body, *_)] = api.asked
    assert body == {"canary": 5, "canary_failures": 1, "canary_seconds": 2.5, "per_second": 50, "dry_run": False}
    assert "the rest stays" in capsys.readouterr().err


def test_a_refusal_is_one_line_that_names_the_field(api, capsys):
    problem = {"type": "/problems/invalid", "title": "A field is wrong", "status": 422}
    api.answers["POST", "/tasks"] = (422, problem | {"pointer": "/priority", "detail": "one of high, default, low"})
    assert main(["submit", "echo", "--priority", "urgent"]) == 1
    assert capsys.readouterr().err == "taskward: /priority: one of high, default, low (422)\n"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"title": "There is no such task"}', "There is no such task (404)"),
        (b'{"detail": "line\\nbreak", "pointer": ""}', "line break (404)"),
        (b"<html>", "the API answers 404"),
        (b"[]", "the API answers 404"),
    ],
)
def test_problems_of_every_shape(body, said):
    assert describe_problem(404, body) == said


def test_something_else_on_the_port_is_said_so(api, capsys):
    api.answers["GET", "/tasks/t1"] = (200, b"<html>")
    assert main(["get", "t1"]) == 1
    assert "not JSON" in capsys.readouterr().err


def test_nobody_there_is_one_line(capsys):
    url = f"http://127.0.0.1:{free_port()}"
    assert main(["get", "t1", "--url", url]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"taskward: no answer from {url}: ")
    assert "Connection refused" in said
    assert said.count("\n") == 1


def test_a_command_that_asks_the_api_does_not_load_redis():
    """Half of the time such a command takes would be that."""
    code = "import sys, taskward.cli.main; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


NO_HOSTS = ("http://a..b", f"http://{'a' * 64}", "http://h h:1", "http://h:1/a b", "http://h:1/é")


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://x", "http://", "http://h:port", "http://[::1", *NO_HOSTS])
def test_an_address_that_is_none_is_asked_wrongly(url, capsys):
    assert main(["get", "t1", "--url", url]) == 2
    assert capsys.readouterr().err == f"taskward: {url!r} is no address of an API: write http://host:port\n"


@pytest.mark.parametrize("payload", ["hello", "{", "NaN", ""])
def test_a_payload_that_is_not_json_is_asked_wrongly(payload, capsys):
    assert main(["submit", "echo", payload, "--url", "http://127.0.0.1:1"]) == 2
    assert capsys.readouterr().err.startswith("taskward: PAYLOAD is not JSON (")


BAD_SETTINGS = [
    ("LEASE_MS", "soon"),
    ("METRICS_ADR", ":1"),
    ("PRIORITIES", "high:0"),
    *(("REDIS_URL", url) for url in ("localhost", "redis://[::1/0", "redis://a..b:1/0", "redis+cluster://h:x")),
]


@pytest.mark.parametrize("command", ["api", "check", "dev", "worker"])
@pytest.mark.parametrize(("name", "value"), BAD_SETTINGS)
def test_a_setting_that_cannot_be_used_stops_the_start_with_one_line(command, name, value, capsys, monkeypatch):
    monkeypatch.setenv(name, value)
    assert main([command, *(["--app", "examples.app:app"] if command == "worker" else [])]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"taskward: {name}")
    assert said.count("\n") == 1


def raising(exc):
    def run(_options):
        raise exc

    return run


@pytest.mark.parametrize(
    ("exc", "code", "said"),
    [
        (ExceptionGroup("", [ExceptionGroup("", [ConfigError("LEASE_MS")])]), 2, "taskward: LEASE_MS\n"),
        (ExceptionGroup("", [BrokerUnavailable("gone"), BrokerUnavailable("gone")]), 1, "taskward: gone\n"),
        (KeyboardInterrupt(), 130, ""),
        (BaseExceptionGroup("", [KeyboardInterrupt()]), 130, ""),
    ],
)
def test_what_is_raised_on_purpose_is_a_line_each(exc, code, said, capsys, monkeypatch):
    monkeypatch.setattr(cli, "_version", raising(exc))
    assert main(["version"]) == code
    assert capsys.readouterr().err == said


def test_what_nobody_meant_is_a_traceback(monkeypatch):
    monkeypatch.setattr(cli, "_version", raising(ExceptionGroup("", [ConfigError("x"), ZeroDivisionError()])))
    with pytest.RaisesGroup(ConfigError, ZeroDivisionError):
        main(["version"])


def test_check_tells_defaults_from_choices_and_asks_redis(capsys, monkeypatch):
    monkeypatch.setenv("REDIS_URL", f"redis://:secret@127.0.0.1:{free_port()}/0")
    monkeypatch.setenv("WORKER_CONCURRENCY", "7")
    monkeypatch.delenv("LEASE_MS", raising=False)
    assert main(["check"]) == 1
    said = capsys.readouterr().out
    assert "* WORKER_CONCURRENCY   7   (default: 100)\n" in said
    assert "  LEASE_MS             30000\n" in said
    assert "  PRIORITIES           high:6,default:3,low:1\n" in said
    assert "Redis at redis://:***@127.0.0.1:" in said
    assert "secret" not in said


REFUSED = [
    ("API_ADDR", "foo"),
    ("API_ADDR", ":99999"),
    ("API_ADDR", "0.0.0.0:8080"),
    ("API_TOKENS_FILE", "/nope"),
    ("METRICS_ADDR", "a..b:80"),
    ("OTEL_TRACES_EXPORTER", "console"),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_check_refuses_what_stops_the_start_of_the_api_or_a_worker(name, value, capsys, monkeypatch, redis_url):
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv(name, value)
    assert main(["check"]) == 2
    said = capsys.readouterr()
    assert "LEASE_MS" in said.out
    assert said.err.startswith(f"taskward: {name}")
    assert said.err.count("\n") == 1


def test_check_names_all_that_stops_a_start(capsys, monkeypatch):
    for name, value in (("API_ADDR", "foo"), ("METRICS_ADDR", ":x")):
        monkeypatch.setenv(name, value)
    assert main(["check"]) == 2
    assert [line.split("=")[0] for line in capsys.readouterr().err.splitlines()] == [
        "taskward: API_ADDR",
        "taskward: METRICS_ADDR",
    ]


def test_repair_without_the_store_is_asked_wrongly(capsys):
    assert main(["check", "--repair"]) == 2
    assert capsys.readouterr().err == "taskward: --repair needs --store\n"


def test_check_tells_of_the_other_schemes_and_no_password(capsys, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis:/:secret@localhost")
    assert main(["check"]) == 2
    said = capsys.readouterr().err
    assert all(f"{scheme}://" in said for scheme in ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster"))
    assert "secret" not in said


def test_check_without_a_redis_url_says_where_dev_has_one(capsys, monkeypatch):
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setattr(Broker, "check", raising(BrokerUnavailable("nobody there")))
    assert main(["check"]) == 1
    assert "`taskward dev`" in capsys.readouterr().out


def test_check_is_content_where_redis_answers(capsys, monkeypatch, redis_url):
    monkeypatch.setenv("REDIS_URL", redis_url)
    assert main(["check"]) == 0
    assert capsys.readouterr().out.endswith(f"\nRedis at {redis_url} answers.\n")


def test_version(capsys):
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"taskward {__version__}\n"


def test_the_version_is_the_package_s(pytestconfig):
    assert f'\nversion = "{__version__}"\n' in (pytestconfig.rootpath / "pyproject.toml").read_text()


def test_every_command_explains_itself(capsys):
    for words in [], ["dev"], ["submit"], ["list"], ["dlq"], ["dlq", "redrive"], ["check"]:
        with pytest.raises(SystemExit) as left:
            main([*words, "--help"])
        assert left.value.code == 0
    assert "taskward submit echo" in capsys.readouterr().out


def test_no_command_is_asked_wrongly():
    with pytest.raises(SystemExit) as left:
        main([])
    assert left.value.code == 2
