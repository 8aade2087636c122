"""The supervisor's promise: all live, or none; they stop in order; nothing outlives it."""

import os
import re
import select
import signal
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import trio
import trio.testing

from taskward.broker.embedded import free_port
from taskward.child import ChildEnded, running
from taskward.cli import supervisor
from taskward.cli.supervisor import NotReady, Part, supervise
from tests.cli.supervised import stub

HERE = Path(__file__).parent


class Heard:
    """What the supervisor said, and a way to wait for a line."""

    def __init__(self):
        self.lines = []
        self._more = trio.Event()

    def __call__(self, name, line):
        self.lines.append(f"{name}: {line}")
        self._more.set()
        self._more = trio.Event()

    async def wait_for(self, line):
        while line not in self.lines:
            await self._more.wait()


async def crash(port):
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET /crash HTTP/1.0\r\n\r\n")
        await stream.receive_some()


async def test_parts_stop_in_order_when_a_signal_comes():
    heard = Heard()
    parts = [stub("worker", free_port()), stub("api", free_port())]
    with trio.fail_after(20):
        await supervise(
            nullcontext("redis://somewhere"),
            lambda url: parts,
            say=heard,
            on_ready=lambda url: os.kill(os.getpid(), signal.SIGTERM),
            stop_seconds=10.0,
        )
    assert heard.lines[-3:] == ["taskward: stopping; once more kills", "api: leaving", "worker: leaving"]


async def test_a_second_signal_kills():
    heard = Heard()
    part = stub("api", free_port(), "deaf")

    async def again():
        await heard.wait_for("taskward: stopping; once more kills")
        os.kill(os.getpid(), signal.SIGTERM)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(again)
            await supervise(
                nullcontext(""),
                lambda url: [part],
                say=heard,
                on_ready=lambda url: os.kill(os.getpid(), signal.SIGTERM),
                stop_seconds=60.0,
            )
    assert_gone(int(heard.lines[0].removeprefix("api: pid ")))


@pytest.mark.parametrize("victim", [0, 1])
async def test_one_that_crashes_stops_the_other_and_is_named_with_its_last_words(victim):
    heard = Heard()
    parts = [stub("worker", free_port()), stub("api", free_port())]
    with trio.fail_after(20), pytest.RaisesGroup(ChildEnded, flatten_subgroups=True) as raised:
        async with trio.open_nursery() as nursery:
            await supervise(
                nullcontext("redis://somewhere"),
                lambda url: parts,
                say=heard,
                on_ready=lambda url: nursery.start_soon(crash, parts[victim].port),
                stop_seconds=10.0,
            )
    (ended,) = leaves(raised.value)
    assert ended.name == parts[victim].name
    assert str(ended).startswith(f"{ended.name} ended with exit code 3; its last words:")
    assert str(ended).endswith("what a pity")
    assert heard.lines[-1] == f"{parts[1 - victim].name}: leaving"


def leaves(exc):
    return [leaf for inner in exc.exceptions for leaf in leaves(inner)] if isinstance(exc, ExceptionGroup) else [exc]


async def test_a_part_that_never_gets_ready_is_named(monkeypatch):
    monkeypatch.setattr(supervisor, "READY_SECONDS", 0.2)
    part = Part(name="worker", command=("sleep", "60"), env={}, host="127.0.0.1", port=free_port())
    with trio.fail_after(20), pytest.RaisesGroup(NotReady, flatten_subgroups=True) as raised:
        await supervise(
            nullcontext(""),
            lambda url: [part],
            say=Heard(),
            on_ready=lambda url: pytest.fail("ready"),
            stop_seconds=5.0,
        )
    said = str(leaves(raised.value)[0])
    assert said == f"worker is not ready after 0.2 s: /readyz on port {part.port} does not answer"


@pytest.mark.parametrize(("answer", "said"), [("HTTP/1.1 503 no", "answers 503"), ("what?", "does not answer")])
async def test_a_part_that_says_it_is_not_ready_is_named_with_its_answer(answer, said, monkeypatch):
    monkeypatch.setattr(supervisor, "READY_SECONDS", 0.5)

    async def answering(stream):
        await stream.receive_some()
        await stream.send_all(answer.encode() + b"\r\n\r\n")
        await stream.aclose()

    with trio.fail_after(20), pytest.RaisesGroup(NotReady, flatten_subgroups=True) as raised:
        async with trio.open_nursery() as nursery:
            [listener] = await nursery.start(partial(trio.serve_tcp, answering, 0, host="127.0.0.1"))
            port = listener.socket.getsockname()[1]
            part = Part(name="api", command=("sleep", "60"), env={}, host="127.0.0.1", port=port)
            await supervise(nullcontext(""), lambda url: [part], say=Heard(), on_ready=pytest.fail, stop_seconds=5.0)
    assert str(leaves(raised.value)[0]) == f"api is not ready after 0.5 s: /readyz on port {port} {said}"


async def test_one_that_ignores_sigterm_is_killed():
    heard = Heard()
    part = stub("worker", free_port(), "deaf")
    with trio.fail_after(20):
        async with running(part.command, name="worker", on_line=partial(heard, "worker"), stop_seconds=0.2) as child:
            await heard.wait_for(f"worker: pid {child.pid}")
    assert heard.lines[-1] == "worker: did not stop within 0.2 s: killed"
    assert_gone(child.pid)


class CancelAt(trio.abc.Instrument):
    """Cancels a scope before the nth step of any Trio task."""

    def __init__(self, step):
        self.left = step
        self.scope = trio.CancelScope()

    def before_task_step(self, task):
        self.left -= 1
        if self.left == 0:
            self.scope.cancel()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looking for processes needs /proc")
async def test_wherever_it_is_cancelled_no_process_is_left():
    mark = f"60.{os.getpid():06}"
    for step in count(1):
        canceller = CancelAt(step)
        trio.lowlevel.add_instrument(canceller)
        with trio.fail_after(20), canceller.scope:
            async with running(("sleep", mark), name="it", on_line=Heard(), stop_seconds=5):
                await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(canceller)
        assert not processes_with(mark)
        if canceller.left > 0:
            break
    assert step > 10


def processes_with(mark):
    return [command for command in map(command_of, Path("/proc").glob("[0-9]*")) if mark.encode() in command]


def command_of(process):
    try:
        return (process / "cmdline").read_bytes()
    except OSError:  # gone meanwhile
        return b""


async def test_a_command_that_does_not_exist_ends_with_what_the_shell_says():
    heard = Heard()
    with trio.fail_after(20), pytest.raises(ChildEnded, match="ended with exit code 127"):
        async with running(("no-such-program",), name="it", on_line=partial(heard, "it"), stop_seconds=1):
            await trio.sleep_forever()


async def test_long_and_unfinished_lines_come_through():
    heard = Heard()
    script = "import sys; sys.stdout.write('x' * 200_000 + '\\nlast'); sys.stdout.flush()"
    with trio.fail_after(20), pytest.raises(ChildEnded, match="exit code 0"):
        async with running((sys.executable, "-c", script), name="it", on_line=partial(heard, "it"), stop_seconds=1):
            await trio.sleep_forever()
    assert sum(line.count("x") for line in heard.lines) == 200_000
    assert heard.lines[-1] == "it: last"


@pytest.fixture
def process(tmp_path):
    """`supervised.py` in a process, up to its banner. -> it, and the pids of all its children."""
    command = [sys.executable, HERE / "supervised.py", tmp_path / "data", str(free_port()), str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        seen = []
        for line in supervisor.stdout:
            seen.append(line)
            if line.startswith("all ready over redis://127.0.0.1:"):
                break
        pids = [int(pid) for pid in re.findall(r"\bpid[ =](\d+)", "".join(seen))]
        yield supervisor, pids
        supervisor.kill()


def test_ctrl_c_stops_all(process):
    supervisor, pids = process
    supervisor.send_signal(signal.SIGINT)
    said = supervisor.stdout.read()
    assert supervisor.wait(20) == 0
    assert said.index("api | leaving") < said.index("worker | leaving") < said.index("store |")
    assert len(pids) == 3
    for pid in pids:
        assert_gone(pid)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waiting for a stranger's end needs Linux")
def test_nothing_outlives_a_supervisor_that_is_killed(process):
    supervisor, pids = process
    ends = [os.pidfd_open(pid) for pid in pids]
    assert len(ends) == 3
    supervisor.kill()
    for end in ends:
        assert select.select([end], [], [], 20)[0], "a child is still there"
        os.close(end)


def assert_gone(pid):
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
