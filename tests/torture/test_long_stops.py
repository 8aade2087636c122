"""Half a minute without Redis, with the timeouts of production: nobody is lost, nobody burns, everybody comes back."""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import redis

from taskward.broker.embedded import blocking_embedded_server
from tests.end_to_end.system import Api, Cluster, Process

STOP_SECONDS = 30.0
RESUMED_SECONDS = 2.0
TICKS = os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.parametrize("lease_ms", [60_000, 5_000], ids=["shorter than a lease", "longer than a lease"])
def test_redis_is_stopped_for_half_a_minute(tmp_path: Path, lease_ms: int) -> None:
    with blocking_embedded_server(tmp_path / "data") as url:
        system = Cluster(tmp_path, url, LEASE_MS=str(lease_ms), LOG_FORMAT="json")
        try:
            half_a_minute(system, url, kept=lease_ms > 1000 * STOP_SECONDS)
        finally:
            system.close()


def half_a_minute(system: Cluster, url: str, *, kept: bool) -> None:
    with redis.Redis.from_url(url) as client:
        server = int(client.info("server")["process_id"])
    api_process, api = system.api()
    worker_process, _ = system.worker()
    ids = api.submit_many([{"type": "sleep", "payload": {"seconds": 5}} for _ in range(10)])
    until_running(api, len(ids))
    os.kill(server, signal.SIGSTOP)
    try:
        began = time.monotonic()
        processes = (api_process, worker_process)
        before = [(cpu_seconds(p), resident_bytes(p)) for p in processes]
        status, problem = api.call("POST", "/tasks", {"type": "echo", "idempotency_key": "once"})
        assert (status, problem["type"]) == (503, "/problems/unavailable")
        assert time.monotonic() - began < 15
        time.sleep(max(0.0, began + STOP_SECONDS - time.monotonic()))
        after = [(cpu_seconds(p), resident_bytes(p)) for p in processes]
    finally:
        os.kill(server, signal.SIGCONT)
    thawed = time.monotonic()
    for (cpu, resident), (cpu_then, resident_then) in zip(before, after, strict=True):
        assert (cpu_then - cpu) / STOP_SECONDS < 0.1
        assert resident_then - resident < 20_000_000
    assert begun_within(api, RESUMED_SECONDS + 1.0)  # the client's own looks come on top
    print(f"back {time.monotonic() - thawed:.2f} s after the end; before and after it: {before} {after}")
    tasks = api.until_done(ids)
    assert {task["state"] for task in tasks.values()} == {"succeeded"}
    assert all(len(task["attempts"]) <= (1 if kept else 2) for task in tasks.values()), tasks  # the last one succeeded
    assert worker_process.stop() == 0
    assert api_process.stop() == 0
    said = [json.loads(line) for line in worker_process.output().splitlines()]
    lines = Counter((line["msg"], line["part"]) for line in said if "redis" in line["msg"] and "part" in line)
    assert {msg for msg, _ in lines} == {"redis does not answer", "redis answers again"}
    assert set(lines.values()) == {1}, lines


def until_running(api: Api, count: int) -> None:
    until = time.monotonic() + 20
    while len(api.get("/tasks?state=running&limit=200")["tasks"]) < count:
        assert time.monotonic() < until
        time.sleep(0.02)


def begun_within(api: Api, seconds: float) -> bool:
    """Whether a submission is accepted, and its task ended, so soon."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        status, body = api.call("POST", "/tasks", {"type": "echo", "idempotency_key": "once"})
        if status in (200, 202):
            while time.monotonic() < until:
                if api.get(f"/tasks/{body['id']}")["terminal"]:
                    return True
                time.sleep(0.02)
        time.sleep(0.05)
    return False


def cpu_seconds(process: Process) -> float:
    """Used so far."""
    fields = Path(f"/proc/{process.popen.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_bytes(process: Process) -> int:
    return int(Path(f"/proc/{process.popen.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
