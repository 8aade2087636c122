"""Fixtures for the tests of telemetry."""

import socket

import pytest

from taskward.telemetry import histograms


@pytest.fixture(params=["bound", "by record"])
def path(request, monkeypatch):
    """Both ways of a histogram's values into OpenTelemetry's SDK."""
    if request.param == "by record":
        monkeypatch.setattr(histograms, "can_bind", lambda: False)
    return request.param


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
