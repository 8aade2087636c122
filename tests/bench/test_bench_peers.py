"""The driver of the peers, on the one peer that is always there: ourselves."""

import pytest

from bench.peers import __main__ as peers
from bench.peers.driver import ADAPTERS, Peer
from bench.peers.install import NODE, OURSELVES, RUNNERS, Unavailable, versions
from bench.server import Server, server


@pytest.fixture
def on(tmp_path):
    with server(tmp_path / "data") as on:
        yield on


def test_every_peer_has_pinned_versions_and_an_adapter_that_says_how_it_is_configured(tmp_path, redis_url, client):
    assert list(versions())[:2] == [OURSELVES, NODE]
    for name, requirements in versions().items():
        assert all("==" in requirement or name == NODE for requirement in requirements)
        _, adapter = RUNNERS.get(name, ("python", f"peer_{name}.py"))
        assert (ADAPTERS / adapter).exists()
        assert len(Peer(name, Server(redis_url, client), tmp_path, seconds=1.0).note()) > 10


def test_a_rate_is_taken_from_what_the_handlers_write_down(on, tmp_path):
    peer = Peer(OURSELVES, on, tmp_path, seconds=0.2)
    assert peer.rate("noop", 10) > 0
    assert on.done() >= 199  # the last may not be settled when the worker is stopped


def test_what_comes_back_after_a_kill_is_told(on, tmp_path):
    said = Peer(OURSELVES, on, tmp_path, seconds=0.2).kill(patience=3.0)
    missing, _, rest = said.partition(" ")
    assert rest == "of 100 not run within 3 s"
    assert int(missing) >= 10  # what ran at the kill: its leases are longer than that


def test_a_peer_that_cannot_be_had_is_a_line_of_the_table(capsys, monkeypatch):
    def refuse(name):
        raise Unavailable("npm is not installed")

    monkeypatch.setattr(peers, "install", refuse)
    assert peers.main(["bullmq", "--runs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "not to be had here" in printed
    assert "bullmq, installation: npm is not installed" in printed


@pytest.mark.slow
def test_the_whole_table_of_one_peer(capsys, tmp_path):
    page = tmp_path / "page.md"
    assert peers.main([OURSELVES, "--runs", "1", "--seconds", "0.2", "--patience", "1", "--markdown", str(page)]) == 0
    assert "| taskward |" in capsys.readouterr().out
    assert "<!-- bench:peers -->" in page.read_text()
