"""The stand-in: answers on the scrape port from another thread, while the loop that serves it stands still."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec
import trio

from taskward import http11
from taskward.http11 import Response

HEAD_BYTES = 4096
ALIVE = Response(200, b"alive\n")
BLOCKED = Response(
    503,
    msgspec.json.encode({"ready": False, "reasons": {"loop_blocked": True}}),
    "application/json",
    (("Cache-Control", "no-store"),),
)


@contextlib.contextmanager
def standing_in(listeners: Sequence[trio.SocketListener]) -> Iterator[Callable[[float], None]]:
    """-> what to call, from any thread, to answer the clients that wait to be accepted, for so many seconds at most.

    `/healthz` is answered as ever, all else that the loop is blocked. Each connection is closed after its answer.
    """
    with contextlib.ExitStack() as closing:
        doors = [closing.enter_context(socket.socket(fileno=os.dup(each.socket.fileno()))) for each in listeners]

        def answer(seconds: float) -> None:
            give_up = time.monotonic() + seconds
            for door in doors:
                door.setblocking(False)
                while time.monotonic() < give_up and _answer_one(door, give_up):
                    pass

        yield answer


def _answer_one(door: socket.socket, give_up: float) -> bool:
    """False: nobody waits."""
    try:
        client, _ = door.accept()
    except OSError:
        return False
    with client, contextlib.suppress(OSError):
        client.settimeout(max(0.001, give_up - time.monotonic()))
        head = client.recv(HEAD_BYTES)
        response = ALIVE if head.startswith((b"GET /healthz ", b"HEAD /healthz ")) else BLOCKED
        client.sendall(http11.encode(response, head_only=head.startswith(b"HEAD "), last=True))
        client.shutdown(socket.SHUT_WR)
    return True
