"""Processes on a real server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskward.broker.embedded import blocking_embedded_server
from tests.end_to_end.system import Cluster

QUICK = {"LEASE_MS": "1500", "REAPER_INTERVAL_MS": "100", "METRICS_SAMPLE_MS": "200", "SHUTDOWN_GRACE_MS": "5000"}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Makes a Cluster with settings of the test's choice, over a server with AOF of its own."""
    made: list[Cluster] = []
    with blocking_embedded_server(tmp_path / "data") as url:

        def make(**settings: str) -> Cluster:
            made.append(Cluster(tmp_path, url, **QUICK | settings))
            return made[-1]

        try:
            yield make
        finally:
            for one in made:
                one.close()
