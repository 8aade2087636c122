"""What users test their handlers with: it ends a task as a worker would."""

import time
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from taskward import App, Context, Discard, Retry, RetryPolicy
from taskward.config import Config
from taskward.errors import InvalidTask
from taskward.task import CancelCause, Progress
from taskward.testing import Ended, attempt, run_attempt

app = App()


class Mail(msgspec.Struct):
    """A payload with a type."""

    to: str


@app.task("send", max_attempts=3, retry=RetryPolicy(base_seconds=5))
async def send(payload: Mail, ctx: Context) -> dict[str, Any]:
    """Has an end for every address."""
    ctx.progress(1, 2, "half way")
    match payload.to:
        case "full":
            raise Retry(after=60)
        case "nobody":
            raise Discard("no such address")
        case "broken":
            raise OSError("connection lost")
        case "slow":
            await trio.sleep_forever()
    return {"sent": payload.to, "attempt": ctx.attempt, "tags": list(ctx.tags)}


@app.task("thread")
def in_thread(payload: Any) -> Any:
    """In a thread."""
    return payload


@app.task("loop", asyncio=True)
async def in_asyncio(payload: Any) -> Any:
    """On asyncio's loop."""
    import asyncio

    await asyncio.sleep(0)
    return payload


def half(n: int) -> float:
    """In a process."""
    return n / 2


app.task("process", process=True)(half)


async def test_a_success_has_its_result_and_what_it_said() -> None:
    ended = await attempt(app, "send", {"to": "ada"}, number=2, tags=["a"])
    assert ended == Ended(
        state="succeeded",
        result={"sent": "ada", "attempt": 2, "tags": ["a"]},
        progress=Progress(1, 2, "half way"),
    )


@pytest.mark.parametrize(
    ("to", "number", "state", "reason", "retry_seconds"),
    [
        ("full", 1, "retrying", "asked", 60),
        ("broken", 1, "retrying", "exception", 5),
        ("broken", 2, "retrying", "exception", 10),
        ("broken", 3, "dead", "exception", None),
        ("nobody", 1, "dead", "discarded", None),
    ],
)
async def test_a_failure_goes_on_by_the_policy(
    to: str, number: int, state: str, reason: str, retry_seconds: float | None
) -> None:
    ended = await attempt(app, "send", {"to": to}, number=number)
    assert (ended.state, ended.reason, ended.retry_seconds) == (state, reason, retry_seconds)
    assert ended.error is not None


async def test_time_runs_out() -> None:
    ended = await attempt(app, "send", {"to": "slow"}, timeout_seconds=0.05)
    assert (ended.state, ended.reason) == ("retrying", "timeout")


async def test_time_that_is_not_short_runs_out_as_well(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    ended = await attempt(app, "send", {"to": "slow"}, timeout_seconds=30)
    assert (ended.reason, trio.current_time() - began) == ("timeout", pytest.approx(30, abs=0.3))


async def test_somebody_cancels() -> None:
    ended = await attempt(app, "send", {"to": "slow"}, cancel_after=0.02)
    assert (ended.state, ended.cancel_cause) == ("cancelled", CancelCause.USER)


@pytest.mark.parametrize("kind", ["thread", "loop"])
async def test_handlers_of_every_kind_run(kind: str) -> None:
    assert (await attempt(app, kind, [1, 2])).result == [1, 2]


def test_without_trio_and_in_a_process() -> None:
    assert run_attempt(app, "process", 3).result == 1.5


async def test_what_a_worker_would_bury_is_dead() -> None:
    assert (await attempt(app, "send", {"from": "ada"})).reason == "invalid_payload"


async def test_a_type_that_nobody_knows_waits_for_somebody_who_does() -> None:
    ended = await attempt(app, "unheard.of", max_attempts=1)
    assert (ended.state, ended.reason) == ("retrying", "unknown_type")


async def test_what_the_api_would_refuse_is_refused() -> None:
    with pytest.raises(InvalidTask) as refused:
        await attempt(app, "send", {"to": "ada"}, priority="urgent")
    assert refused.value.pointer == "/priority"


async def test_settings_apply() -> None:
    ended = await attempt(app, "thread", "x" * 100, config=Config(max_payload_bytes=200))
    assert ended.state == "succeeded"
    ended = await attempt(app, "send", {"to": "slow"}, config=Config(task_timeout_ms=100))
    assert (ended.state, ended.reason) == ("retrying", "timeout")


async def test_an_attempt_leaves_nothing_that_runs(autojump_clock: trio.testing.MockClock) -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    began = time.monotonic()
    await attempt(app, "send", {"to": "ada"}, cancel_after=1000)
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert time.monotonic() - began < 5
