"""Connection, on both its ways to the server: its troubles are BrokerUnavailable, and afterwards it works again."""

import asyncio
import contextlib
import gc
import os
import random
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import redis
import trio
import trio.testing
import trio_asyncio

from taskward.broker import connection, script
from taskward.broker.connection import Connection, open_connection
from taskward.broker.embedded import blocking_embedded_server, free_port, server_command
from taskward.errors import BrokerUnavailable, ConfigError
from taskward.policy.retry import Bury, Complete
from tests.support.rig import TERMS, Rig


@pytest.fixture
def own_url(tmp_path: Path) -> Iterator[str]:
    """A server that a test may ill-treat."""
    with blocking_embedded_server(tmp_path / "own", fsync="no") as url:
        yield url


@pytest.fixture
def own_client(own_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(own_url, decode_responses=True) as client:
        yield client


@pytest.fixture(params=["wire", "redis-py"])
def wire(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "wire")


@pytest.fixture
async def own(own_url: str, wire: bool) -> AsyncIterator[Connection]:
    async with open_connection(own_url, name="tests", wire=wire) as connection:
        yield connection


@pytest.fixture
def own_rig(own: Connection, own_client: "redis.Redis") -> Rig:
    return Rig(own, own_client, queue="own")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls wait a fifth of a second instead of five."""
    monkeypatch.setattr(Connection._call, "__kwdefaults__", {"patience": 0.2})


async def test_out_of_memory_stops_what_fills_and_not_what_drains(own_rig: Rig, own_client: "redis.Redis") -> None:
    a, b, _, _ = await own_rig.running("a", "b", "c", "d")
    await own_rig.submit("e")
    await own_rig.broker.report("w1", b"{}")
    own_client.config_set("maxmemory", "1")
    with pytest.raises(BrokerUnavailable, match="maxmemory"):
        await own_rig.submit("f")
    assert await own_rig.settle(a, Complete(b"1"), b"{}") == "S"
    assert await own_rig.settle(b, Bury("exception"), b"{}") == "D"
    assert [lease.id for lease in await own_rig.claim()] == ["e"]
    assert await own_rig.broker.cancel("c", cause="user") == "cancelling"
    own_rig.clock.move(ms=TERMS.lease_ms)
    assert {reaped.id for reaped in await own_rig.broker.reap()} == {"c", "d", "e"}
    own_rig.clock.move(ms=TERMS.result_ttl_ms)
    assert await own_rig.broker.forget() == 2
    await own_rig.broker.report("w1", b"")
    assert (await own_rig.broker.sample()).running == 0
    own_client.config_set("maxmemory", "0")
    await own_rig.submit("f")


async def test_a_replica_takes_no_writes(own_rig: Rig, own_client: "redis.Redis") -> None:
    (lease,) = await own_rig.running("a")
    own_client.replicaof("127.0.0.1", free_port())
    for refused in (own_rig.submit("b"), own_rig.claim(), own_rig.broker.extend([lease]), own_rig.broker.reap()):
        with pytest.raises(BrokerUnavailable):
            await refused
    assert (await own_rig.broker.sample()).running == 1
    own_client.config_set("replica-serve-stale-data", "no")
    with pytest.raises(BrokerUnavailable):
        await own_rig.broker.sample()
    own_client.replicaof("NO", "ONE")
    assert await own_rig.settle(lease, Complete(b"1")) == "S"


async def test_too_few_replicas(own_rig: Rig, own_client: "redis.Redis") -> None:
    own_client.config_set("min-replicas-to-write", "1")
    with pytest.raises(BrokerUnavailable):
        await own_rig.submit("a")
    own_client.config_set("min-replicas-to-write", "0")
    await own_rig.submit("a")


async def test_a_busy_server(own_rig: Rig, own_client: "redis.Redis", own_url: str) -> None:
    await own_rig.submit("a")
    own_client.config_set("busy-reply-threshold", "1")
    with socket.create_connection(("127.0.0.1", _port(own_url))) as blocker:
        blocker.sendall(b"EVAL 'while true do end' 0\r\n")
        while not await _refused(own_rig):
            pass
        own_client.script_kill()
        assert blocker.recv(1) == b"-"
    assert (await own_rig.broker.sample()).running == 0


async def test_a_server_that_loads_its_data(tmp_path: Path, wire: bool) -> None:
    port = free_port()
    with _server(tmp_path, port) as client:
        for n in range(200):
            client.set(f"k{n}", "x" * 2048)
        client.bgrewriteaof()
        while client.info("persistence")["aof_rewrite_in_progress"]:
            await trio.sleep(0.01)
    slowly = ["--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024"]
    with _server(tmp_path, port, *slowly, wait=False) as client:
        async with open_connection(f"redis://127.0.0.1:{port}/0", name="tests", wire=wire) as connection:
            rig = Rig(connection, client, queue="own")
            with trio.fail_after(30):
                while "loading" not in (await _refused(rig)).lower():
                    pass
            client.config_set("key-load-delay", "0")
            with trio.fail_after(30):
                while await _refused(rig):
                    await trio.sleep(0.01)
            assert (await rig.broker.sample()).running == 0


async def _refused(rig: Rig) -> str:
    try:
        await rig.submit("a")
    except BrokerUnavailable as exc:
        return str(exc)
    return ""


@contextlib.contextmanager
def _server(directory: Path, port: int, *options: str, wait: bool = True) -> Iterator["redis.Redis"]:
    command = [*server_command(directory, port, "no"), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while wait and "Ready to accept connections" not in process.stdout.readline():
            pass
        with redis.Redis(port=port, decode_responses=True) as client:
            yield client
        process.terminate()
        process.stdout.read()


async def test_nobody_there(wire: bool) -> None:
    async with open_connection(f"redis://127.0.0.1:{free_port()}/0", name="tests", wire=wire) as connection:
        with pytest.raises(BrokerUnavailable):
            await connection.command("PING")


async def test_a_server_that_hangs(own: Connection, own_client: "redis.Redis", hasty: None) -> None:
    await own.command("PING")
    pid = int(own_client.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(3):
            with pytest.raises(BrokerUnavailable):
                await own.command("PING")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert await own.command("ECHO", "back") == b"back"


async def test_a_server_that_was_restarted(tmp_path: Path, wire: bool) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    async with open_connection(url, name="tests", wire=wire) as connection:
        with blocking_embedded_server(tmp_path, port=port):
            async with trio.open_nursery() as nursery:
                for _ in range(8):  # so that there are several connections to fail
                    nursery.start_soon(connection.command, "PING")
            await connection.command("SET", "k", "v")
        with pytest.raises(BrokerUnavailable):
            await connection.command("GET", "k")
        with blocking_embedded_server(tmp_path, port=port):
            failures = 0
            while True:
                try:
                    assert await connection.command("GET", "k") == b"v"
                    break
                except BrokerUnavailable:
                    failures += 1
            assert failures <= 1


async def test_no_reply_goes_to_another_call(own: Connection) -> None:
    """Calls are cancelled at any moment; those that are not get their own answer."""
    answered = 0
    dice = random.Random(7)

    async def echo(n: int) -> None:
        nonlocal answered
        with trio.move_on_after(dice.choice([0.0, 0.0005, 0.002, 5.0])):
            assert await own.command("ECHO", f"{n}") == b"%d" % n
            answered += 1

    async with trio.open_nursery() as nursery:
        for n in range(300):
            nursery.start_soon(echo, n)
            if n % 10 == 0:
                await trio.lowlevel.checkpoint()
    assert answered >= 50
    assert await own.command("ECHO", "still") == b"still"


async def test_a_mistake_of_ours_is_not_an_outage(own: Connection) -> None:
    await own.command("SET", "k", "v")
    for wrong in (("LPUSH", "k", "v"), ("NONSENSE",)):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the driver's own, whichever it is
            await own.command(*wrong)
        assert not isinstance(caught.value, BrokerUnavailable)


async def test_a_script_the_server_has_lost(own: Connection, own_client: "redis.Redis") -> None:
    rig = Rig(own, own_client, queue="own")
    for _ in range(2):
        own_client.script_flush()
        await rig.broker.sample()
        assert own_client.script_exists(script.load("sample").sha) == [True]


async def test_a_sleepers_script_runs_when_there_is_a_marker(own_rig: Rig, own_client: "redis.Redis") -> None:
    async with trio.open_nursery() as nursery:
        claimed: list[str] = []

        async def sleep() -> None:
            claimed.extend(lease.id for lease in await own_rig.claim(asleep=30.0))

        nursery.start_soon(sleep)
        await own_rig.until_asleep(1)
        own_client.script_flush()  # what is sent already does not know
        await own_rig.submit("a")
    assert claimed == ["a"]


async def test_a_subscription_hears_of_cancels(own_rig: Rig, own: Connection) -> None:
    await own_rig.running("a")
    async with own.subscription(own_rig.broker.keys.channel()) as receive:
        await own_rig.broker.cancel("a", cause="user")
        assert await _next(receive) == b"a"


async def _next(receive: Callable[[], Awaitable[bytes | None]]) -> bytes:
    with trio.fail_after(5):
        while (message := await receive()) is None:
            pass
    return message


async def test_a_subscription_lasts_through_a_silence(
    own_rig: Rig, own: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LISTEN_SECONDS", 0.01)
    await own_rig.running("a")
    async with own.subscription(own_rig.broker.keys.channel()) as receive:
        for _ in range(5):
            assert await receive() is None
        await own_rig.broker.cancel("a", cause="user")
        assert await _next(receive) == b"a"


async def test_a_subscription_to_a_server_that_hangs_is_given_up(
    own: Connection, own_client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LISTEN_SECONDS", 0.1)
    monkeypatch.setattr(connection, "CALL_SECONDS", 0.2)
    pid = int(own_client.info("server")["process_id"])
    async with own.subscription("channel") as receive:
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(BrokerUnavailable):
                await _next(receive)
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_a_subscription_ends_with_its_server(own: Connection, own_client: "redis.Redis") -> None:
    async with own.subscription("channel") as receive:
        with contextlib.suppress(redis.ConnectionError):
            own_client.shutdown(nosave=True)
        with pytest.raises(BrokerUnavailable):
            await _next(receive)
    with pytest.raises(BrokerUnavailable):
        async with own.subscription("channel"):
            pass


async def test_password_and_database(own_client: "redis.Redis", own_url: str, wire: bool) -> None:
    own_client.config_set("requirepass", "secret")
    async with open_connection(own_url, name="tests", wire=wire) as connection:
        with pytest.raises(BrokerUnavailable):
            await connection.command("SET", "k", "v")
    url = own_url.replace("//", "//:secret@")[:-1] + "3"
    async with open_connection(url, name="tests of ours", wire=wire) as connection:
        await connection.command("SET", "k", "v")
        assert own_client.execute_command("AUTH", "secret")
        assert own_client.info("keyspace")["db3"]["keys"] == 1
        assert "tests-of-ours" in {client["name"] for client in own_client.client_list()}


@pytest.mark.parametrize("url", ["", "http://127.0.0.1/", "127.0.0.1:6379", "redis://127.0.0.1:port/0"])
async def test_an_url_that_is_none(url: str) -> None:
    with pytest.raises(ConfigError, match="REDIS_URL"):
        async with open_connection(url, name="tests"):
            pass


def _port(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


async def test_a_failure_that_nobody_awaited_is_told_and_ends_nothing(
    own: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        asyncio.get_running_loop().create_future().set_exception(ValueError("nobody's"))

    await trio_asyncio.aio_as_trio(fail)()
    gc.collect()
    await trio.testing.wait_all_tasks_blocked()
    assert await own.command("PING")
    assert "never retrieved" in caplog.text
