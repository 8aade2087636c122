"""Every error Taskward raises on purpose; each is named for the situation a caller is in."""


class TaskwardError(Exception):
    """Anything Taskward raises on purpose; catch it at the edges only. The docstring is the default message."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])


class ConfigError(TaskwardError):
    """A setting cannot be used; the message names it. The start fails."""


class UnreadableBody(TaskwardError):
    """The request body is not JSON that can be kept: malformed, not UTF-8, nested too deeply, a key twice."""


class InvalidTask(TaskwardError):
    """A field of a submission is wrong. `pointer` is its JSON pointer (RFC 6901)."""

    def __init__(self, detail: str, *, pointer: str = "") -> None:
        super().__init__(detail)
        self.pointer = pointer


class TaskTooLarge(TaskwardError):
    """The payload or the body is longer than the configured limit."""


class TaskNotFound(TaskwardError):
    """No task has this id: it was never submitted, or its retention has passed."""


class Conflict(TaskwardError):
    """The id or idempotency key belongs to a different submission already."""


class InvalidTransition(TaskwardError):
    """The task's state does not allow this move; nothing was changed."""


class QueueFull(TaskwardError):
    """There is no room for another task of this priority. `retry_after` is in seconds."""

    def __init__(self, message: str = "", *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class MemoryLow(QueueFull):
    """Redis is short of memory, and tasks of this priority are not taken for now."""


class BrokerUnavailable(TaskwardError):
    """Redis did not answer or cannot take writes now; the one error that loops outlive."""


class BrokerRefused(TaskwardError):
    """The Redis server is set up so that tasks could be lost; the message says what to set."""


class DecodeError(TaskwardError):
    """Stored bytes are not a task."""


class Retry(Exception):
    """Raised by a handler: run this task again in `after` seconds (default: its retry policy's delay). Raises TypeError
    or ValueError for what is no number.
    """

    def __init__(self, *, after: float | None = None) -> None:
        self.after = None if after is None else float(after)
        super().__init__(f"retry after {after} s" if after is not None else "retry")

    def __reduce__(self) -> tuple[type["Retry"], tuple[()], dict[str, float | None]]:
        # Raised in a process, read in the worker's: one of a handler's own class may want other arguments.
        return Retry, (), {"after": self.after}


class Discard(Exception):
    """Raised by a handler: trying again is useless; the task goes to the DLQ with this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
