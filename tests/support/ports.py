"""Ports for what a test starts, and perhaps starts again."""

import random
import socket

# Below those that the kernel gives to connections: one of those could take the port while its server is away.
RANGE = range(10_000, 32_000)


def free_ports(n: int) -> list[int]:
    """Loopback ports nobody listens on now, each another."""
    found: list[socket.socket] = []
    while len(found) < n:
        try:
            found.append(socket.create_server(("127.0.0.1", random.choice(RANGE))))
        except OSError:
            continue
    ports = [listener.getsockname()[1] for listener in found]
    for listener in found:
        listener.close()
    return ports
