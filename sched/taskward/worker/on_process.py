"""A handler in a process of its own: what runs there. The process ends when its worker does, however that ends."""

import os
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any

LOOK_SECONDS = 0.25


def run(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """What `function` returns or raises. Call it in the process."""
    _watch_parent()
    return function(*args)


@cache
def _watch_parent() -> None:
    """Once a process. The kernel gives an orphan another parent."""
    threading.Thread(target=_end_with, args=[os.getppid()], name="taskward-parent", daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)
