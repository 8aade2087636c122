"""A second, blocking way to renew leases: for the watchdog's thread, while the Trio loop cannot."""

from collections.abc import Sequence

import redis

from taskward.broker import script
from taskward.broker.blocking import blocking_client
from taskward.broker.keys import Keys
from taskward.errors import BrokerUnavailable
from taskward.task import Lease

SECONDS = 2.0


class Lifeline:
    """Renews leases from any one thread. Connects at the first use."""

    def __init__(self, url: str, *, queue: str, lease_ms: int) -> None:
        self._client = blocking_client(url, seconds=SECONDS, name="taskward-watchdog", queue=queue)
        self._script = script.load("extend")
        self._keys = self._script.keys(Keys(queue, ()))
        self._lease_ms = lease_ms

    def extend(self, leases: Sequence[Lease]) -> list[str]:
        """As Broker.extend. Raises BrokerUnavailable."""
        args: list[str | int] = ["", self._lease_ms]
        for lease in leases:
            args += (lease.id, lease.token)
        try:
            reply = self._client.eval(self._script.source, len(self._keys), *self._keys, *args)
        except (redis.RedisError, OSError) as exc:
            raise BrokerUnavailable(str(exc)) from exc
        return [entry.decode() for entry in reply]

    def close(self) -> None:
        """Give the socket back."""
        self._client.close()
