"""Every key of a queue, by name. All share one hash tag, so a queue is one Cluster slot."""

from collections.abc import Sequence

# One per queue.
NAMED = frozenset(
    {
        "spec",
        "record",
        "ended",
        "running",
        "done",
        "result",
        "history",
        "progress",
        "cancel",
        "idempotency",
        "idempotency_expiry",
        "fence",
        "claims",
        "reaping",
        "wake",
        "workers",
        "workers_seen",
        "paused",
    }
)
# One per priority of a queue.
FAMILIES = ("ready", "scheduled", "retry", "dead")


class Keys:
    """The names of one queue's keys in Redis."""

    def __init__(self, queue: str, priorities: Sequence[str]) -> None:
        self._prefix = f"taskward:{{{queue}}}:"
        self._priorities = tuple(priorities)

    def __call__(self, name: str) -> str:
        """The key called `name`. Raises KeyError for a name outside the table."""
        if name not in NAMED:
            raise KeyError(name)
        return self._prefix + name

    def family(self, name: str) -> list[str]:
        """One key per priority, in the order of the priorities. Raises KeyError like a single name."""
        if name not in FAMILIES:
            raise KeyError(name)
        return [f"{self._prefix}{name}:{priority}" for priority in self._priorities]

    def channel(self) -> str:
        """Where workers hear that one of their tasks is to be cancelled (a channel, not a key)."""
        return self._prefix + "cancels"
