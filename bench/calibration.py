"""How fast this machine is right now. A shared machine has moods; figures are compared by what stands beside them."""

import platform
import socket
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

SECONDS = 0.3
LOOP = 200_000


class Calibration(NamedTuple):
    """`round_trips`: PINGs a second, one at a time, by a bare socket. `loops`: turns of a Python loop, in millions."""

    round_trips: float
    loops: float


def calibrate(url: str, *, seconds: float = SECONDS) -> Calibration:
    """Take both, for about so long each."""
    return Calibration(_round_trips(url, seconds), _loops(seconds))


def machine() -> str:
    """What we run on, in one line."""
    cpu = platform.processor() or platform.machine()
    known = Path("/proc/cpuinfo")
    if known.exists():
        lines = known.read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        cpu = f"{len(names)} x {names[0]}" if names else cpu
    return f"{cpu}, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def _round_trips(url: str, seconds: float) -> float:
    at = urlsplit(url)
    with socket.create_connection((at.hostname, at.port)) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        done = 0
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            for _ in range(50):
                wire.sendall(b"PING\r\n")
                wire.recv(64)
            done += 50
        return done / (time.perf_counter() - began)


def _loops(seconds: float) -> float:
    done = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        x = 0
        for n in range(LOOP):
            x += n & 7
        done += LOOP
    return done / (time.perf_counter() - began) / 1e6
