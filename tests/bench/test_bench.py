"""`python -m bench` and `taskward bench` run, at sizes that measure nothing, and print what they promise."""

import pytest

from bench.__main__ import main as bench
from bench.measures import MEASURES
from taskward.cli.main import main as taskward

TINY = ("--scale", "0.0005", "--runs", "1")


def test_each_measure_that_is_named_gets_a_table_also_in_the_page(capsys, tmp_path):
    page = tmp_path / "page.md"
    assert bench(["sleep", "memory", *TINY, "--markdown", str(page)]) == 0
    printed, written = capsys.readouterr().out, page.read_text()
    for text in (printed, written):
        assert "| measured" in text
        assert "10 ms sleeps, concurrency 100" in text
        assert "server memory a queued task" in text
    assert [line for line in written.splitlines() if line.startswith("<!-- bench")] == [
        *("<!-- bench:machine -->", "<!-- bench:sleep -->", "<!-- bench:memory -->"),
    ]


def test_waits_are_taken_from_a_real_worker_and_the_api_is_loaded_from_outside(capsys):
    assert bench(["idle", "http", *TINY]) == 0
    printed = capsys.readouterr().out
    for figure in (
        "idle: submit by BlockingClient to start, p99",
        "HTTP POST /tasks, 32 connections: API CPU",
        "HTTP batch, arrays",
    ):
        assert figure in printed


def test_an_unknown_measure_is_one_clear_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        bench(["nope"])
    assert stopped.value.code == 2
    assert "no measure 'nope'; there are noop, sleep" in capsys.readouterr().err


@pytest.mark.slow
def test_every_measure_runs(capsys):
    assert bench([*TINY, "--pin", "0"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("| measured") == len(MEASURES)


def test_a_user_measures_an_installation_and_nothing_of_it_stays(capsys, monkeypatch, redis_url, client):
    monkeypatch.setenv("REDIS_URL", redis_url)
    before = set(client.keys("taskward:{bench-*"))
    assert taskward(["bench", "--tasks", "50", "--samples", "3"]) == 0
    printed = capsys.readouterr().out
    for figure in ("round trip, median", "submissions, batches of 512", "no-op tasks", "submit to start"):
        assert figure in printed
    assert set(client.keys("taskward:{bench-*")) == before


def test_measuring_nothing_is_refused(capsys):
    assert taskward(["bench", "--tasks", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
