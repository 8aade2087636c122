"""TLS before a server that has none: certificates of a test's own, and a proxy that ends the encryption."""

import shutil
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

READ_BYTES = 65_536
GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class Certificate(NamedTuple):
    """Files in PEM. It is its own authority: who trusts `certificate` trusts its holder."""

    certificate: Path
    key: Path


def make_certificate(folder: Path, name: str) -> Certificate:
    """For the host `name`, valid for a day."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: TLS is not tested")
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    command = [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-days", "1", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
        *("-keyout", str(made.key), "-out", str(made.certificate)),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return made


def server_context(own: Certificate, *, clients: Certificate | None = None) -> ssl.SSLContext:
    """Shows `own`; with `clients` it lets nobody in who does not show that."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*own)
    if clients is not None:
        context.load_verify_locations(clients.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def serve_tls(
    context: ssl.SSLContext, target: int, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    """Pass what comes encrypted on to the port `target` of this machine, until cancelled. Started with its own port."""

    async def relay(client: trio.SSLStream[trio.SocketStream]) -> None:
        with suppress(*GONE):
            server = await trio.open_tcp_stream("127.0.0.1", target)
            async with client, server, trio.open_nursery() as pumps:
                pumps.start_soon(_pump, client, server, pumps.cancel_scope)
                pumps.start_soon(_pump, server, client, pumps.cancel_scope)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(listener.socket.getsockname()[1])
    await trio.serve_listeners(relay, [trio.SSLListener(listener, context)])


async def _pump(source: trio.abc.Stream, sink: trio.abc.Stream, both: trio.CancelScope) -> None:
    with suppress(*GONE):
        while chunk := await source.receive_some(READ_BYTES):
            await sink.send_all(chunk)
    both.cancel()
