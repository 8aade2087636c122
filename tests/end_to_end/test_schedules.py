"""A schedule's tasks in a real system of several workers, and what is said of a schedule that is none."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.end_to_end.system import Api, Cluster

FIRING = re.compile(r"every-minute-\d{8}T\d{4}00Z")


def test_several_workers_submit_each_firing_once(cluster: Callable[..., Cluster]) -> None:
    system = cluster()
    _, api = system.api()
    scrapes = [system.worker("tests.end_to_end.scheduled:app")[1] for _ in range(3)]
    until = time.monotonic() + 20
    while not all(map(has_submitted, scrapes)):
        assert time.monotonic() < until
        time.sleep(0.1)
    found = api.call("GET", "/tasks?type=pulse")[1]["tasks"]
    ids = [task["id"] for task in found]
    assert len(ids) == len(set(ids)) <= 2  # two where a minute has just begun
    assert all(FIRING.fullmatch(id) for id in ids)

    if found[0]["state"] == "scheduled":
        assert api.call("POST", f"/tasks/{ids[0]}/run-now")[0] == 200
    done = api.until_done(ids[:1])[ids[0]]
    assert (done["result"], done["priority"], done["attempt"]) == ({"beat": True}, "high", 1)
    [shown] = {tuple(worker["report"]["schedules"][0].items()) for worker in api.call("GET", "/workers")[1]["workers"]}
    assert dict(shown) == {
        "name": "every-minute",
        "cron": "* * * * *",
        "timezone": "Europe/Berlin",
        "type": "pulse",
    }


def has_submitted(worker: Api) -> bool:
    """A worker submits for its schedules only."""
    with urlopen(f"{worker.url}/metrics", timeout=10) as response:
        return 'redis_command_seconds_count{op="submit"}' in response.read().decode()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('app.schedule("a", "61 * * * *", "t")', "Bad minute"),
        ('app.schedule("a", "* * * * *", "t")', "no handler for 't'"),
        (
            'app.task("t")(lambda payload: None)\napp.schedule("a", "* * * * *", "t", priority="urgent")',
            "/priority",
        ),
    ],
)
def test_a_worker_does_not_start_with_a_schedule_that_is_none(
    cluster: Callable[..., Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    (tmp_path / "broken_schedule.py").write_text(f"from taskward import App\napp = App()\n{line}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker, _ = cluster().worker("broken_schedule:app", ready=False)
    assert worker.wait() == 2
    [error] = [text for text in worker.output().splitlines() if "schedule 'a'" in text]
    assert said in error
    assert "Traceback" not in worker.output()
