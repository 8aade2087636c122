"""step.lua, its first half: what each decision about a lease leaves in the store, and who may take it."""

from typing import Any

import pytest

from taskward import codec
from taskward.broker.messages import Settlement
from taskward.policy.retry import Bury, Cancel, Complete, Decision, Release, RetryIn
from taskward.task import CancelCause, Lease
from tests.support.rig import TERMS, Rig
from tests.support.store import Contents, record

COMPLETE = Complete(b'"done"')
RETRY = RetryIn(1.5, "exception")
BURY = Bury("exception")
CANCEL = Cancel(CancelCause.DEADLINE)
RELEASE = Release(CancelCause.SHUTDOWN)
EVERY: list[Decision] = [COMPLETE, RETRY, BURY, CANCEL, RELEASE]
RAN_MS = 700


async def _started(rig: Rig, **fields: Any) -> tuple[Lease, Contents]:
    """A task that has run for a while, with no marker left; and what the store holds that settling does not change."""
    (lease,) = await rig.running("a", **fields)
    rig.clock.move(ms=RAN_MS)
    rig.store.client.delete(rig.store.key("wake"))
    contents = rig.store.read()
    assert contents.pop("running") == {"a": rig.clock.ms - RAN_MS + TERMS.lease_ms}
    del contents["record"]
    return lease, contents


def _record(rig: Rig, state: str, lease: Lease, **changed: Any) -> dict[str, str]:
    common: dict[str, Any] = {"token": lease.token, "worker": "w1", "queued": lease.queued_us, "finished": rig.clock.ms}
    return {"a": record(state, started=rig.clock.ms - RAN_MS, **common | changed)}


async def test_complete_keeps_the_result_for_its_time(rig: Rig) -> None:
    lease, rest = await _started(rig)
    assert await rig.settle(lease, COMPLETE) == "S"
    assert rig.store.read() == rest | {
        "ended": _record(rig, "S", lease),
        "done": {"a": rig.clock.ms + TERMS.result_ttl_ms},
        "result": {"a": '"done"'},
    }


async def test_a_result_of_null_takes_no_room(rig: Rig) -> None:
    lease, _ = await _started(rig)
    assert await rig.settle(lease, Complete(b"null")) == "S"
    assert rig.store["result"] == {}


async def test_retry_waits_out_its_delay(rig: Rig) -> None:
    lease, rest = await _started(rig)
    assert await rig.settle(lease, RETRY, b'{"n":1}') == "T"
    assert rig.store.read() == rest | {
        "record": _record(rig, "T", lease),
        "retry:high": {"a": rig.clock.ms + 1500},
        "history": {"a": '{"n":1}\n'},
        "wake": ["1"],
    }


async def test_bury_puts_it_into_the_dlq_of_its_priority(rig: Rig) -> None:
    await rig.submit("a", priority="low")
    (lease,) = (await rig.step(wanted=1)).leases
    rig.clock.move(ms=RAN_MS)
    assert await rig.settle(lease, BURY, b'{"n":1}') == "D"
    contents = rig.store.read()
    assert contents["dead:low"] == {"a": rig.clock.ms}
    assert contents["record"] == _record(rig, "D", lease, priority="low")
    assert contents["history"] == {"a": '{"n":1}\n'}
    assert {"running", "done", "result", "ready:low", "retry:low"}.isdisjoint(contents)


async def test_cancel_keeps_its_cause(rig: Rig) -> None:
    lease, rest = await _started(rig)
    assert await rig.settle(lease, CANCEL) == "C"
    assert rig.store.read() == rest | {
        "ended": _record(rig, "C", lease, cause="deadline"),
        "done": {"a": rig.clock.ms + TERMS.result_ttl_ms},
    }


async def test_release_goes_to_the_head_and_costs_no_attempt(rig: Rig) -> None:
    lease, _ = await _started(rig)
    await rig.submit("b")
    assert await rig.settle(lease, RELEASE) == "Q"
    contents = rig.store.read()
    assert contents["ready:high"] == {"a": lease.queued_us, "b": rig.clock.us}
    assert contents["record"] == _record(rig, "Q", lease, attempt=0)
    assert contents["wake"] == ["1"] * 2
    assert "running" not in contents
    (again,) = await rig.claim()
    assert (again.id, again.attempt) == ("a", 1)


async def test_a_retry_that_does_not_count_costs_no_attempt(rig: Rig) -> None:
    lease, _ = await _started(rig)
    assert await rig.settle(lease, RetryIn(2.0, "unknown_type", counted=False)) == "T"
    contents = rig.store.read()
    assert contents["retry:high"] == {"a": rig.clock.ms + 2000}
    assert contents["record"] == _record(rig, "T", lease, attempt=0)
    rig.clock.move(ms=2000)
    assert [(again.id, again.attempt) for again in await rig.claim()] == [("a", 1)]


@pytest.mark.parametrize("decision", EVERY)
@pytest.mark.parametrize("off", [-1, 1])
async def test_another_token_changes_nothing(rig: Rig, decision: Decision, off: int) -> None:
    lease, _ = await _started(rig)
    before = rig.store.read()
    stale = Lease(**{f: getattr(lease, f) for f in lease.__struct_fields__} | {"token": lease.token + off})
    assert await rig.settle(stale, decision, b"{}") == "!"
    assert rig.store.read() == before


@pytest.mark.parametrize("decision", EVERY)
async def test_a_task_never_claimed_or_unknown_cannot_be_settled(rig: Rig, decision: Decision) -> None:
    lease, _ = await _started(rig)
    await rig.submit("b")
    before = rig.store.read()
    for id in ("b", "nobody"):
        other = Lease(**{f: getattr(lease, f) for f in lease.__struct_fields__} | {"id": id})
        assert await rig.settle(other, decision) == "!"
    assert rig.store.read() == before


@pytest.mark.parametrize("first", EVERY)
@pytest.mark.parametrize("second", EVERY)
async def test_a_token_settles_once(rig: Rig, first: Decision, second: Decision) -> None:
    lease, _ = await _started(rig)
    await rig.settle(lease, first, b"{}")
    before = rig.store.read()
    rig.clock.move(ms=1)
    assert await rig.settle(lease, second, b"{}") == "="
    assert rig.store.read() == before


@pytest.mark.parametrize("second", EVERY)
async def test_twice_in_one_call_the_first_counts(rig: Rig, second: Decision) -> None:
    lease, rest = await _started(rig)
    both = await rig.step(Settlement(lease, COMPLETE), Settlement(lease, second, b"{}"))
    assert both.verdicts == "S="
    assert rig.store.read() == rest | {
        "ended": _record(rig, "S", lease),
        "done": {"a": rig.clock.ms + TERMS.result_ttl_ms},
        "result": {"a": '"done"'},
    }


async def test_a_late_holder_is_fenced_by_the_next_claim(rig: Rig) -> None:
    lease, _ = await _started(rig)
    await rig.settle(lease, RELEASE)
    (again,) = await rig.claim(worker="w2")
    before = rig.store.read()
    assert await rig.settle(lease, COMPLETE) == "!"
    assert rig.store.read() == before
    assert await rig.settle(again, COMPLETE) == "S"


async def test_a_lease_past_its_end_counts_until_it_is_reaped(rig: Rig) -> None:
    lease, _ = await _started(rig)
    rig.clock.move(ms=TERMS.lease_ms)
    assert await rig.settle(lease, COMPLETE) == "S"


@pytest.mark.parametrize("decision", [RETRY, RELEASE, CANCEL])
async def test_a_task_that_is_to_be_cancelled_does_not_run_again(rig: Rig, decision: Decision) -> None:
    lease, rest = await _started(rig)
    await rig.broker.cancel("a", cause="user")
    assert await rig.settle(lease, decision, b"{}") == "C"
    assert rig.store.read() == rest | {
        "ended": _record(rig, "C", lease, cause="user"),
        "done": {"a": rig.clock.ms + TERMS.result_ttl_ms},
        "history": {"a": "{}\n"},
    }


@pytest.mark.parametrize(("decision", "letter", "key"), [(COMPLETE, "S", "ended"), (BURY, "D", "record")])
async def test_what_ended_before_it_heard_of_the_cancel_has_ended(
    rig: Rig, decision: Decision, letter: str, key: str
) -> None:
    lease, _ = await _started(rig)
    await rig.broker.cancel("a", cause="user")
    assert await rig.settle(lease, decision) == letter
    contents = rig.store.read()
    assert contents[key] == _record(rig, letter, lease)
    assert "cancel" not in contents


async def test_one_cancelled_task_does_not_touch_another(rig: Rig) -> None:
    a, b = await rig.running("a", "b")
    await rig.broker.cancel("a", cause="user")
    assert (await rig.step(Settlement(b, RETRY), Settlement(a, RETRY))).verdicts == "TC"
    assert list(rig.store["retry:high"]) == ["b"]


async def test_verdicts_come_in_order(rig: Rig) -> None:
    leases = await rig.running(*"abcde")
    settlements = [Settlement(lease, decision) for lease, decision in zip(leases, EVERY, strict=True)]
    assert (await rig.step(*settlements)).verdicts == "STDCQ"
    contents = rig.store.read()
    assert list(contents["done"]) == ["a", "d"]
    assert [list(contents[f"{place}:high"]) for place in ("retry", "dead", "ready")] == [["b"], ["c"], ["e"]]


async def test_a_large_call_with_every_decision(rig: Rig) -> None:
    ids = [f"{n:04}" for n in range(1500)]
    for at in range(0, 1500, 500):
        await rig.submit(*ids[at : at + 500])
        rig.clock.move(us=500)
    leases = await rig.claim(1500)
    for id in ids[:10]:
        await rig.broker.cancel(id, cause="user")
    settlements = [Settlement(lease, EVERY[n % 5], b"{}") for n, lease in enumerate(leases)]
    verdicts = (await rig.step(*settlements)).verdicts
    assert verdicts == "SCDCC" * 2 + "STDCQ" * 298
    contents = rig.store.read()
    assert "running" not in contents
    assert "cancel" not in contents
    assert len(contents["done"]) == 600 + 4
    assert len(contents["result"]) == 300
    assert len(contents["history"]) == 1500


async def test_the_history_is_bounded(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    for n in range(40):
        line = f"{n:02}".encode() + b"x" * 998
        await rig.settle(lease, RELEASE, line)
        (lease,) = await rig.claim()
    lines = rig.store["history"]["a"].splitlines()
    assert [line[:2] for line in lines] == [str(n) for n in range(24, 40)]
    await rig.settle(lease, RELEASE, b"y" * 20_000)
    assert rig.store["history"]["a"] == "y" * 20_000 + "\n"  # the newest stays, even where it alone is too long


async def test_settling_and_claiming_needs_no_marker(rig: Rig) -> None:
    lease, _ = await _started(rig)
    step = await rig.step(Settlement(lease, RETRY), wanted=1)
    assert step.wait == 1.5
    assert rig.store["wake"] == {}


@pytest.mark.parametrize(("decision", "markers"), [(COMPLETE, 0), (RETRY, 1), (BURY, 1), (CANCEL, 0), (RELEASE, 1)])
async def test_only_settling_tells_somebody_of_what_may_run_again(rig: Rig, decision: Decision, markers: int) -> None:
    lease, _ = await _started(rig)
    await rig.settle(lease, decision)
    assert rig.store["wake"] == (["1"] * markers or {})


async def test_a_priority_that_is_no_longer_configured_is_that_of_the_place(rig: Rig) -> None:
    (lease,) = await rig.running("a")
    text = rig.store["record"]["a"].replace("|high|", "|gone|")
    rig.store.client.hset(rig.store.key("record"), "a", text)
    assert await rig.settle(lease, RETRY) == "T"
    contents = rig.store.read()
    assert list(contents["retry:low"]) == ["a"]
    assert codec.decode_record(contents["record"]["a"].encode()).priority == "low"
