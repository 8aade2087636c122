"""Whatever a handler does, of whichever kind it is: its worker lives, and nothing of it runs on."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from taskward import Context, Retry
from taskward.task import State, Task
from tests.worker.workshop import Workshop

SURROGATE = "bad name \udcff"


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("not even that")


class Nothing(Exception):
    def __str__(self) -> str:
        return None  # type: ignore[return-value]


class Leaves(Exception):
    def __str__(self) -> str:
        raise SystemExit(5)


class AfterText(Retry):
    def __init__(self) -> None:
        self.after = "60"  # type: ignore[assignment]


class AfterNothing(Retry):
    def __init__(self) -> None: ...

    @property
    def after(self) -> float:  # type: ignore[override]
        raise ValueError("no length")


def deep_group() -> BaseException:
    exc: Exception = ValueError("innermost")
    for _ in range(3000):
        exc = ExceptionGroup("g", [exc, ValueError("beside it")])
    return exc


RAISED: dict[str, BaseException] = {
    "a generator's end": GeneratorExit(),
    "the end of an iteration": StopIteration(),
    "an exit where its text should be": Leaves(),
    "a wait that is a text": AfterText(),
    "a wait that cannot be read": AfterNothing(),
    "a deep group": deep_group(),
    "an exit": SystemExit(3),
    "a Ctrl-C": KeyboardInterrupt(),
    "asyncio's cancellation": asyncio.CancelledError(),
    "a text that is no UTF-8": ValueError(SURROGATE),
    "no text": Mute(),
    "None for a text": Nothing(),
    "a group": BaseExceptionGroup("g", [ValueError("in a group")]),
    "a group with an exit": BaseExceptionGroup("g", [SystemExit(1), ValueError(SURROGATE)]),
    "no stack left": RecursionError(),
    "a wait of no length": Retry(after=float("nan")),
}


async def survives(workshop: Workshop, type: str, **fields: Any) -> Task:
    """-> the task of this type, once another has run on the same worker after it."""

    @workshop.app.task()
    async def good(payload: Any) -> str:
        return "still here"

    async with workshop.working() as pool:
        task = await workshop.until(await workshop.submit(type, max_attempts=1, **fields))
        assert (await workshop.until(await workshop.submit("good"))).result == "still here"
        assert pool.busy == 0
    return task


@pytest.mark.parametrize("raised", RAISED.values(), ids=RAISED)
@pytest.mark.parametrize("kind", ["trio", "thread", "asyncio"])
async def test_whatever_it_raises(workshop: Workshop, kind: str, raised: BaseException) -> None:
    async def fail(payload: Any) -> None:
        raise raised

    def fail_in_thread(payload: Any) -> None:
        raise raised

    workshop.app.task("fail", asyncio=kind == "asyncio")(fail_in_thread if kind == "thread" else fail)
    task = await survives(workshop, "fail")
    assert task.state is State.DEAD
    assert task.last_error is not None
    assert task.last_error.type in {type(raised).__name__, "ValueError", "RuntimeError", "Exception"}


@pytest.mark.parametrize("kind", ["trio", "thread", "asyncio"])
async def test_its_traceback_begins_with_the_handler(workshop: Workshop, kind: str) -> None:
    async def fails(payload: Any) -> None:
        deeper()

    def fails_in_thread(payload: Any) -> None:
        deeper()

    def deeper() -> None:
        raise ValueError("here")

    function = fails_in_thread if kind == "thread" else fails
    workshop.app.task("fails", asyncio=kind == "asyncio")(function)
    error = (await survives(workshop, "fails")).last_error
    assert error is not None
    head, first, *_, last = error.traceback.splitlines()
    assert head == "Traceback (most recent call last):"
    assert first.endswith(f"in {function.__name__}")
    assert last == "ValueError: here"


async def test_an_exit_inside_a_nursery(workshop: Workshop) -> None:
    @workshop.app.task()
    async def nested(payload: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            sys.exit(1)

    task = await survives(workshop, "nested")
    assert (task.state, task.last_error and task.last_error.type) == (State.DEAD, "SystemExit")


async def stray_failure() -> None:
    """Of a task nobody awaits: a log line."""

    async def boom() -> None:
        raise ValueError("nobody hears")

    asyncio.get_running_loop().create_task(boom())
    await asyncio.sleep(0.01)


async def stray_callback() -> None:
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0.01)


async def stray_exit() -> None:
    async def leave() -> None:
        raise SystemExit(1)

    asyncio.get_running_loop().create_task(leave())
    await asyncio.sleep(0.01)


@pytest.mark.parametrize("stray", [stray_failure, stray_callback, stray_exit])
async def test_what_asyncio_is_told_by_nobody(
    workshop: Workshop, stray: Callable[[], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    @workshop.app.task("stray", asyncio=True)
    async def run(payload: Any) -> int:
        await stray()
        return 1

    assert (await survives(workshop, "stray")).result == 1
    if stray is not stray_exit:
        assert "asyncio: " in caplog.text


@pytest.mark.filterwarnings("error")
async def test_an_asyncio_task_that_is_cancelled_before_it_begins(workshop: Workshop) -> None:
    @workshop.app.task(asyncio=True)
    async def hasty(payload: Any) -> int:
        asyncio.get_running_loop().create_task(asyncio.sleep(60)).cancel()
        return 1

    assert (await survives(workshop, "hasty")).result == 1
    gc.collect()


@pytest.mark.parametrize("end", ["it returns", "it raises", "its time is up"])
async def test_tasks_that_an_asyncio_handler_leaves_end_with_it(workshop: Workshop, end: str) -> None:
    ticks: list[str] = []

    async def tick() -> None:
        try:
            asyncio.get_running_loop().create_task(deeper())
            await asyncio.sleep(60)
        finally:
            ticks.append("gone")

    async def deeper() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ticks.append("gone too")

    @workshop.app.task(asyncio=True)
    async def leaves(payload: Any) -> None:
        asyncio.get_running_loop().create_task(tick())
        await asyncio.sleep(0.01)
        if end == "it raises":
            raise ValueError
        if end == "its time is up":
            await asyncio.sleep(60)

    await survives(workshop, "leaves", timeout_ms=100)
    assert sorted(ticks) == ["gone", "gone too"]


@pytest.mark.parametrize("within", ["alone", "in a group", "in a thread"])
async def test_a_cancelled_of_another_scope_is_a_failure_like_any_other(workshop: Workshop, within: str) -> None:
    """One that was kept, by a cache of outcomes for instance. It stopped every slot of the worker, without a word."""
    saved: list[BaseException] = []

    async def cancel() -> None:
        with trio.move_on_after(0):
            try:
                await trio.sleep(1)
            except trio.Cancelled as exc:
                saved.append(exc)
                raise

    def raise_it(payload: Any) -> None:
        raise BaseExceptionGroup("g", [*saved, ValueError("x")]) if within == "in a group" else saved[0]

    async def stray(payload: Any) -> None:
        raise_it(payload)

    await cancel()
    workshop.app.task("stray")(raise_it if within == "in a thread" else stray)
    task = await survives(workshop, "stray")
    assert task.state is State.DEAD
    assert task.last_error is not None


async def test_what_a_handler_sets_in_its_context_is_not_the_next_ones(workshop: Workshop) -> None:
    tenant = ContextVar("tenant", default="nobody")

    @workshop.app.task()
    async def reads(payload: Any) -> str:
        seen = tenant.get()
        tenant.set(payload)
        await trio.lowlevel.checkpoint()
        assert tenant.get() == payload
        if payload == "raises":
            raise ValueError
        return seen

    async with workshop.working(concurrency=1):
        for payload in ("a", "raises", "b", "c"):
            task = await workshop.until(await workshop.submit("reads", payload, max_attempts=1))
            assert task.result in ("nobody", None)


@pytest.mark.parametrize("deep", [200, 950])
async def test_a_result_that_nobody_could_read_is_none(workshop: Workshop, deep: int) -> None:
    @workshop.app.task()
    async def nested(payload: Any) -> Any:
        result: list[Any] = []
        for _ in range(deep):
            result = [result]
        return result

    task = await survives(workshop, "nested")
    assert task.state is (State.SUCCEEDED if deep == 200 else State.DEAD)


async def test_a_result_that_is_no_json_is_none(workshop: Workshop) -> None:
    @workshop.app.task()
    async def raw(payload: Any) -> Any:
        return msgspec.Raw(b'{"a":')

    assert (await survives(workshop, "raw")).state is State.DEAD


async def test_asyncio_in_a_handler_for_trio_is_told_how(workshop: Workshop) -> None:
    @workshop.app.task()
    async def foreign(payload: Any) -> None:
        await asyncio.get_running_loop().create_future()

    task = await survives(workshop, "foreign")
    assert task.last_error is not None
    assert "@app.task(asyncio=True)" in task.last_error.message


@pytest.mark.parametrize("current", [float("nan"), float("inf"), 3])
async def test_a_report_that_says_nothing_is_none(workshop: Workshop, current: float) -> None:
    @workshop.app.task()
    async def reports(payload: Any, ctx: Context) -> str:
        ctx.progress(1, 2, SURROGATE)
        ctx.progress(current, float("inf"))
        assert ctx.reported is not None
        return f"{ctx.reported.current:g} of {ctx.reported.total}"

    task = await survives(workshop, "reports")
    assert task.result == ("3 of None" if current == 3 else "1 of 2.0")


async def test_a_handler_may_have_all_the_time_in_the_world(workshop: Workshop) -> None:
    @workshop.app.task(timeout_seconds=1e12)
    async def patient(payload: Any, ctx: Context) -> int:
        return ctx.deadline.year

    assert (await survives(workshop, "patient")).result == 9999


def busy(payload: Any) -> int:
    threading.Event().wait(0.4)
    return os.getpid()


@pytest.mark.parametrize("timeout_ms", [1500, 550])
async def test_a_process_handlers_time_runs_from_when_it_has_a_process(workshop: Workshop, timeout_ms: int) -> None:
    """Two processes for ten tasks: the last waits two seconds, longer than an attempt may take."""
    workshop.app.task(process=True)(busy)
    async with workshop.working():
        warm = [await workshop.submit("busy") for _ in range(2)]
        assert [(await workshop.until(id)).state for id in warm] == [State.SUCCEEDED] * 2
        ids = [await workshop.submit("busy", timeout_ms=timeout_ms, max_attempts=1) for _ in range(10)]
        tasks = [await workshop.until(id) for id in ids]
    assert {task.state for task in tasks} == {State.SUCCEEDED}


async def test_a_process_handlers_timeout_is_no_deadline(workshop: Workshop) -> None:
    workshop.app.task(process=True)(sleeps)
    async with workshop.working():
        far = await workshop.broker.now_ms() + 60_000
        id = await workshop.submit("sleeps", timeout_ms=300, deadline_ms=far, max_attempts=2)
        task = await workshop.until(id)
    assert (task.state, task.cancel_cause) == (State.DEAD, None)
    assert [attempt.cancel_cause for attempt in task.attempts] == ["timeout"] * 2


def sleeps(payload: Any) -> None:
    time.sleep(30)


PARENT = """
import sys, trio, trio_parallel
from taskward.worker import on_process
from tests.worker.test_odd_handlers import endless
trio.run(trio_parallel.run_sync, on_process.run, endless, (sys.argv[1],))
"""


def endless(fifo: str) -> None:
    with Path(fifo).open("w") as out:
        print("begun", file=out, flush=True)
        threading.Event().wait(60)
        print("ended", file=out, flush=True)


def test_a_process_handler_ends_with_its_worker_however_that_ends(tmp_path: Path) -> None:
    fifo = tmp_path / "said"
    os.mkfifo(fifo)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, fifo])
    try:
        with fifo.open() as said:
            assert said.readline() == "begun\n"
            parent.kill()
            assert said.read() == ""  # the kernel has closed the other end: the process is gone
    finally:
        parent.kill()
        parent.wait()
