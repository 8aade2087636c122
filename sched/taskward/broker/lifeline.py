"""A second, blocking way to renew leases: for the watchdog's thread, while the Trio loop cannot."""

from collections.abc import Sequence

from taskward.broker.blocking import BlockingConnection, finished
from taskward.broker.broker import Broker
from taskward.config import Config
from taskward.events import ignore
from taskward.task import Lease

SECONDS = 2.0


class Lifeline:
    """Renews leases from any one thread. Connects at the first use."""

    def __init__(self, config: Config) -> None:
        self._connection = BlockingConnection(
            config.redis_url, name="taskward-watchdog", queue=config.queue, seconds=SECONDS
        )
        self._broker = Broker.of(config, self._connection, observe=ignore)

    def extend(self, leases: Sequence[Lease]) -> list[str]:
        """As Broker.extend. Raises BrokerUnavailable."""
        return finished(self._broker.extend(leases))

    def close(self) -> None:
        """Give the socket back."""
        self._connection.close()
