import threading

import pytest

from tests.cli.stub_api import Api


@pytest.fixture
def api(monkeypatch):
    with Api() as server:
        monkeypatch.setenv("TASKWARD_URL", server.url)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
