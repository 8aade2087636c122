"""Taskward: tasks in over HTTP, held in Redis, run by Trio workers, everything visible."""

from taskward.app import App
from taskward.errors import Discard, Retry
from taskward.task import RetryPolicy
from taskward.worker.context import Context

__version__ = "0.1.0"
__all__ = ["App", "Context", "Discard", "Retry", "RetryPolicy", "__version__"]
