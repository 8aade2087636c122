"""Where handlers write down what they did: a file of lines of sixteen bytes, which the driver watches grow.

No broker is asked how far a run is, and every peer, of whatever language and with whatever processes, is counted alike.
BENCH_TALLY is the file, BENCH_EVERY how many lines are kept back to be written together (what one process can do
where it runs all of BENCH_TASKS).
"""

import itertools
import os
import threading
import time

_every = int(os.environ.get("BENCH_EVERY", "1"))
_last = int(os.environ.get("BENCH_TASKS", "0"))
_kept: list[bytes] = []
_numbers = itertools.count(1)
_lock = threading.Lock()
_file: int | None = None


def did(number: int) -> None:
    """A handler has done its work; `number` says which task's, or how many nanoseconds it took to start."""
    _kept.append(b"%015d\n" % number)
    n = next(_numbers)
    if n % _every == 0 or n == _last:
        _write()


def since(sent_ns: int) -> int:
    """Nanoseconds from a moment in another process."""
    return time.time_ns() - sent_ns


def _write() -> None:
    global _file
    with _lock:
        if _file is None:
            _file = os.open(os.environ["BENCH_TALLY"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        lines = b"".join(_kept[:])
        del _kept[: len(lines) // 16]
        os.write(_file, lines)
