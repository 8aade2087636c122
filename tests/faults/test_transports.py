"""Over TLS and over a Unix socket everything works as over TCP, by both ways, and what is refused says why."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from taskward.broker.connection import open_connection
from taskward.broker.lifeline import Lifeline
from taskward.client import open_blocking_client
from taskward.config import Config
from taskward.errors import BrokerUnavailable, ConfigError
from taskward.events import OutageBegan, TaskStarted
from tests.faults.server import Server
from tests.faults.site import LEASE_MS, Site, open_site, outcomes
from tests.support.tls import Certificate, make_certificate, serve_tls, server_context


@pytest.fixture(params=["wire", "redis-py"])
def wire(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "wire")


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """The server's."""
    return make_certificate(tmp_path, "localhost")


@pytest.fixture
async def tls_port(server: Server, certificate: Certificate) -> AsyncIterator[int]:
    """Leads to the server."""
    async with fronted(server, certificate) as port:
        yield port


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """Short: the address of a Unix socket has some hundred bytes."""
    with tempfile.TemporaryDirectory(prefix="tw-") as folder:
        yield Path(folder) / "redis.sock"


async def test_tls(server: Server, tls_port: int, certificate: Certificate, wire: bool) -> None:
    url = f"rediss://localhost:{tls_port}/0?ssl_ca_certs={certificate.certificate}"
    async with open_site(server, wire=wire, url=url) as site:
        await does_everything(site, url)


async def test_tls_with_a_certificate_of_the_client(
    server: Server, certificate: Certificate, wire: bool, tmp_path: Path
) -> None:
    ours = make_certificate(tmp_path, "worker")
    async with fronted(server, certificate, clients=ours) as port:
        anonymous = f"rediss://localhost:{port}/0?ssl_ca_certs={certificate.certificate}"
        assert await refusal(anonymous, wire=wire)
        url = f"{anonymous}&ssl_certfile={ours.certificate}&ssl_keyfile={ours.key}"
        async with open_site(server, wire=wire, url=url) as site:
            await does_everything(site, url)


async def test_a_certificate_nobody_vouches_for(tls_port: int, wire: bool) -> None:
    assert "certificate verify failed" in await refusal(f"rediss://localhost:{tls_port}/0", wire=wire)
    await works(f"rediss://localhost:{tls_port}/0?ssl_cert_reqs=none", wire=wire)


async def test_a_certificate_for_another_host(tls_port: int, certificate: Certificate, wire: bool) -> None:
    url = f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs={certificate.certificate}"
    assert "certificate verify failed" in await refusal(url, wire=wire)
    await works(f"{url}&ssl_check_hostname=false", wire=wire)


async def test_tls_where_the_server_has_none(server: Server, wire: bool) -> None:
    assert await refusal(server.url.replace("redis:", "rediss:"), wire=wire)


@pytest.mark.parametrize("option", ["ssl_cert_reqs=perhaps", "ssl_nonsense=1"])
async def test_an_option_that_is_none(option: str) -> None:
    url = f"rediss://localhost/0?{option}"
    with pytest.raises(ConfigError, match="REDIS_URL"):
        async with open_connection(url, name="tests"):
            pass
    with pytest.raises(ConfigError, match="REDIS_URL"), open_blocking_client(url):
        pass


async def test_a_unix_socket(tmp_path: Path, socket_path: Path, wire: bool) -> None:
    server = Server(tmp_path / "data", options=["--unixsocket", str(socket_path)])
    url = f"unix://{socket_path}?db=3"
    try:
        assert await refusal(url, wire=wire)
        await server.start()
        async with open_site(server, wire=wire, url=url) as site:
            await does_everything(site, url)
        assert server.admin.info("keyspace").keys() == {"db3"}
    finally:
        server.close()


async def does_everything(site: Site, url: str) -> None:
    """Submit, run, settle, cancel, renew; and once more after the server was away."""
    lifeline = Lifeline(Config(redis_url=url, queue=site.worker.queue, lease_ms=LEASE_MS))
    async with site.running():
        held = await site.hold_one()
        lease = (await site.said.wait_for(TaskStarted)).lease
        await site.goes_on()
        assert await trio.to_thread.run_sync(lifeline.extend, [lease]) == [""]
        with open_blocking_client(url, queue=site.worker.queue) as client:
            assert (await trio.to_thread.run_sync(client.submit, "note")).created
        assert not site.said.of(OutageBegan)
        await site.server.kill()
        await site.said.wait_for(OutageBegan, where=lambda event: event.part == "wake")
        await site.server.start()
        await site.goes_on()
        site.let_go.set()
        assert outcomes(await site.until_done(held)) == ["succeeded"]
        await site.every_outage_was_said_once()
    lifeline.close()


async def works(url: str, *, wire: bool) -> None:
    """A call is answered."""
    async with open_connection(url, name="tests", wire=wire) as connection:
        assert await connection.command("ECHO", "here") == b"here"


async def refusal(url: str, *, wire: bool) -> str:
    """Why there is no connection, as the log would say it."""
    async with open_connection(url, name="tests", wire=wire) as connection:
        with pytest.raises(BrokerUnavailable) as caught:
            await connection.command("PING")
    return str(caught.value)


@asynccontextmanager
async def fronted(server: Server, own: Certificate, *, clients: Certificate | None = None) -> AsyncIterator[int]:
    """-> a port that speaks TLS for the server."""
    async with trio.open_nursery() as nursery:
        yield await nursery.start(serve_tls, server_context(own, clients=clients), server.port)
        nursery.cancel_scope.cancel()
