"""For tests of handlers: one attempt as a worker makes it, without a worker and without Redis.

from taskward.testing import attempt, run_attempt

async def test_a_full_mailbox_is_tried_again():  # in Trio
    ended = await attempt(app, "email.send", {"to": "full@example.com", "template": "welcome"})
    assert (ended.state, ended.retry_seconds) == ("retrying", 60)

def test_a_welcome_is_sent():
    assert run_attempt(app, "email.send", {"to": "ada@example.com", "template": "welcome"}).result == {...}
"""

import time
from functools import partial
from typing import Any, Unpack

import msgspec
import trio
import trio_asyncio

from taskward import codec
from taskward.app import App
from taskward.client.fields import Item, Options, encode
from taskward.client.local import now_ms
from taskward.config import Config
from taskward.policy.retry import Bury, Cancel, Complete, Outcome, Release, RetryIn
from taskward.submission import Limits, parse
from taskward.task import CancelCause, ErrorInfo, Lease, Progress, State, Submission
from taskward.worker import slot
from taskward.worker.ending import Defaults, decision_of, running_of
from taskward.worker.executor import Executor
from taskward.worker.keeper import LOOK_SECONDS
from taskward.worker.running import Running


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt has made of its task.

    `state` is succeeded, retrying, dead or cancelled. `retry_seconds`: until the next attempt; where jitter shortens
    that, the longest. `reason` is the word that metrics have for it, `progress` the last report.
    """

    state: State
    result: Any = None
    error: ErrorInfo | None = None
    reason: str | None = None
    retry_seconds: float | None = None
    cancel_cause: CancelCause | None = None
    progress: Progress | None = None


async def attempt(
    app: App,
    type: str,
    payload: Any = None,
    *,
    number: int = 1,
    cancel_after: float | None = None,
    config: Config | None = None,
    **options: Unpack[Options],
) -> Ended:
    """Have the handler run a task as its attempt `number`. `options` are those of a submission; `cancel_after` so many
    seconds somebody cancels it. Raises what a submission raises: InvalidTask, TaskTooLarge.
    """
    config = config or Config()
    body = encode(Item(type=type, payload=payload, **options))
    submission = parse(body, Limits.of(config), now_ms())
    if submission.late is not None:
        raise submission.late
    lease = _lease(submission, config, number=number)
    running = running_of(lease, app, Defaults.of(config), claimed=trio.current_time())
    outcome = await _outcome(running, config, cancel_after)
    return _ended(running, outcome, config)


def run_attempt(app: App, type: str, payload: Any = None, **more: Any) -> Ended:
    """`attempt` for tests that are not in Trio: it takes what that takes."""
    return trio.run(partial(attempt, app, type, payload, **more))


def _lease(submission: Submission, config: Config, *, number: int) -> Lease:
    now = time.time_ns() // 1000
    return Lease(
        id=submission.id,
        spec=submission.spec,
        token=now,
        attempt=number,
        queued_us=now,
        started_us=now,
        held_until=trio.current_time() + config.lease_ms / 1000,
        created_ms=now // 1000,
    )


async def _outcome(running: Running, config: Config, cancel_after: float | None) -> Outcome:
    """In a slot of its own, looked after as a worker's keeper does."""
    executor = Executor(trio.CapacityLimiter(1), trio.CapacityLimiter(1), config.max_payload_bytes)
    send, receive = trio.open_memory_channel[Running](1)
    outcomes: list[Outcome] = []
    async with trio_asyncio.open_loop(), trio.open_nursery() as keeping:
        keeping.start_soon(_keep_time, running)
        if cancel_after is not None:
            keeping.start_soon(_cancel, running, cancel_after)
        with send:
            send.send_nowait(running)
        async with trio.open_nursery() as working:  # a Trio task of its own: a slot changes its task's context
            ended = partial(_keep, outcomes)
            working.start_soon(partial(slot.work, receive, attempt=executor.attempt, ended=ended))
        keeping.cancel_scope.cancel()
    [outcome] = outcomes
    return outcome


def _keep(outcomes: list[Outcome], _running: Running, outcome: Outcome) -> None:
    outcomes.append(outcome)


async def _keep_time(running: Running) -> None:
    while True:
        running.look_at_time(trio.current_time())
        await trio.sleep(LOOK_SECONDS)


async def _cancel(running: Running, seconds: float) -> None:
    await trio.sleep(seconds)
    running.cancel(CancelCause.USER)


def _ended(running: Running, outcome: Outcome, config: Config) -> Ended:
    progress = running.context.reported if running.context is not None else None
    match decision_of(running, outcome, Defaults.of(config), dice=0.0):
        case Complete(result):
            return Ended(state=State.SUCCEEDED, result=codec.decode_value(result), progress=progress)
        case RetryIn(seconds, reason, error):
            return Ended(state=State.RETRYING, retry_seconds=seconds, reason=reason, error=error, progress=progress)
        case Bury(reason, error):
            return Ended(state=State.DEAD, reason=reason, error=error, progress=progress)
        case Cancel(cause) | Release(cause):
            return Ended(state=State.CANCELLED, cancel_cause=cause, progress=progress)
