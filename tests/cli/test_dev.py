"""`taskward dev`: what it plans, prints and refuses."""

import io
import socket
import sys

import pytest

from taskward.broker.embedded import free_port
from taskward.cli.dev import Plan, banner, parts_of, printer
from taskward.cli.main import build_parser, main


def plan(*words, **env):
    return Plan.of(build_parser().parse_args(["dev", *words]), env)


def test_each_process_gets_its_own_scrape_address():
    worker, api = parts_of(plan(), {"LOG_LEVEL": "debug"}, "redis://127.0.0.1:1/0")
    assert worker.env["METRICS_ADDR"] == ":2113"
    assert api.env["METRICS_ADDR"] == ":2112"
    assert api.env["API_ADDR"] == ":8080"
    for part in (worker, api):
        assert part.env["REDIS_URL"] == "redis://127.0.0.1:1/0"
        assert part.env["LOG_LEVEL"] == "debug"
    assert worker.command == (sys.executable, "-m", "taskward", "worker", "--app", "examples.app:app")


def test_settings_and_options_move_the_addresses():
    chosen = plan("--worker-metrics", ":3", "--api-metrics", "127.0.0.1:2", API_ADDR=":1", METRICS_ADDR=":9")
    assert [str(address) for address in chosen.addresses] == ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]
    assert plan(METRICS_ADDR=":9").api_metrics.text == ":9"


def test_the_banner_has_one_line_to_try_and_no_password():
    said = banner(plan(REDIS_URL="redis://:secret@db:6379/0"), "redis://:secret@db:6379/0")
    assert 'curl http://127.0.0.1:8080/tasks -H \'Content-Type: application/json\' -d \'{"type": "echo"' in said
    assert "console   http://127.0.0.1:8080/ " in said
    assert "http://127.0.0.1:2112/metrics" in said
    assert "http://127.0.0.1:2113/metrics" in said
    assert "redis://:***@db:6379/0" in said
    assert "secret" not in said


def test_the_banner_names_no_type_that_is_not_there():
    said = banner(plan("--app", "shop.tasks:app"), "redis://127.0.0.1:1/0")
    assert '{"type": "A_TYPE_OF_YOURS"' in said


def test_the_banner_asks_for_the_token_where_one_is_needed():
    assert "Authorization: Bearer" in banner(plan(API_TOKENS_FILE="tokens.json"), "redis://127.0.0.1:1/0")


@pytest.mark.parametrize(
    ("option", "cure"),
    [("--api-addr", "API_ADDR=:"), ("--api-metrics", "METRICS_ADDR=:"), ("--worker-metrics", "--worker-metrics :")],
)
def test_a_taken_port_is_one_line_that_names_the_setting(option, cure, capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("REDIS_URL", raising=False)
    addresses = {name: f"127.0.0.1:{free_port()}" for name in ("--api-addr", "--api-metrics", "--worker-metrics")}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = [word for pair in (addresses | {option: f":{port}"}).items() for word in pair]
        assert main(["dev", "--data", str(tmp_path / "data"), *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"taskward: port {port} on 127.0.0.1 is taken: ")
    assert f"{cure}{port + 1}" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "data").exists(), "something was started before"


def test_two_parts_cannot_share_a_port(capsys):
    port = free_port()
    assert main(["dev", "--api-addr", f":{port}", "--api-metrics", f":{port}"]) == 2
    assert "METRICS_ADDR=:" in capsys.readouterr().err


def test_colour_is_for_terminals():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    pipe, terminal, plain = io.StringIO(), Terminal(), Terminal()
    printer(pipe, no_colour=False)("api", "hello")
    printer(terminal, no_colour=False)("api", "hello")
    printer(plain, no_colour=True)("api", "hello")
    assert pipe.getvalue() == plain.getvalue() == "     api | hello\n"
    assert terminal.getvalue() == "\033[36m     api |\033[0m hello\n"
