"""Fixtures for every folder: one real server a run, and a queue of its own a test."""

import pytest

from taskward.broker.broker import Broker, Terms
from taskward.broker.connection import Connection
from taskward.config import Config
from taskward.events import ignore
from tests.support.fixtures import client, connection, queue, redis_url, rig

__all__ = ["broker", "client", "connection", "queue", "redis_url", "rig"]


@pytest.fixture
def broker(connection: Connection, queue: str) -> Broker:
    """A Broker as the processes build it from the default settings, on an empty queue."""
    config = Config(queue=queue)
    return Broker(connection, queue=queue, priorities=config.priority_names, terms=Terms.of(config), observe=ignore)
