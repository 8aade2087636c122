"""What goes to the scripts and comes back: arguments and replies, as the values the verbs deal in."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, assert_never

import msgspec

from taskward import codec
from taskward.broker.connection import Argument
from taskward.errors import DecodeError
from taskward.events import PrioritySample
from taskward.policy.retry import Bury, Cancel, Complete, Decision, Release, RetryIn
from taskward.task import Lease, Spec, Submission, Submitted


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """A decision about a lease, to be recorded. `line` is the ended attempt for the history, b'' for none."""

    lease: Lease
    decision: Decision
    line: bytes = b""


class Packed(NamedTuple):
    """Submissions, and the arguments with which they go to submit.lua."""

    submissions: Sequence[Submission]
    arguments: list[Argument]


class Refusal(msgspec.Struct, frozen=True):
    """A submission the store did not take: `conflict`, or else there is no room. `waiting` is the queue's depth."""

    id: str
    conflict: bool
    waiting: int


class Step(msgspec.Struct, frozen=True):
    """What a step answered. `verdicts` has a letter a settlement: "!" for a lost lease. `wait`: seconds until more may
    be claimed, None where nobody knows. `broken` are claimed tasks whose bytes cannot be read, with why.
    """

    verdicts: str
    leases: list[Lease]
    broken: list[tuple[Lease, DecodeError]]
    expired: int
    wait: float | None


def submission_texts(submission: Submission, *, priority: str) -> tuple[str, ...]:
    """What submit.lua takes of a task; `priority` is the number of its priority."""
    spec = submission.spec
    return (
        submission.id,
        priority,
        _due(spec),
        str(spec.start_by_ms or ""),
        spec.idempotency_key or "",
        codec.encode_spec(spec),
    )


def _due(spec: Spec) -> str:
    if spec.delay_ms is not None:
        return f"+{spec.delay_ms}"
    return "" if spec.run_at_ms is None else str(spec.run_at_ms)


def submitted(packed: Packed, reply: Sequence[Any]) -> list[Submitted | Refusal]:
    """What submit.lua answers, for each task."""
    waiting, codes, *there = reply
    holders = iter(there)
    return [
        _submitted(code, submission.id, holders, waiting)
        for submission, code in zip(packed.submissions, codes.decode(), strict=True)
    ]


def _submitted(code: str, id: str, holders: Iterator[bytes], waiting: int) -> Submitted | Refusal:
    """What its digit means; `holders` are the ids it names, in their order."""
    match code:
        case "1":
            return Submitted(id, True)
        case "2":
            return Submitted(next(holders).decode(), False)
        case "3":
            return Refusal(next(holders).decode(), True, waiting)
        case _:
            return Refusal(id, False, waiting)


def settlement_arguments(settlement: Settlement) -> tuple[Argument, ...]:
    """What step.lua takes of a settlement."""
    lease, line = settlement.lease, settlement.line
    match settlement.decision:
        case Complete(result):
            return (lease.id, lease.token, "S", "", b"" if result == b"null" else result, line)
        case RetryIn(seconds, counted=counted):
            return (lease.id, lease.token, "T" if counted else "U", round(seconds * 1000), "", line)
        case Bury():
            return (lease.id, lease.token, "D", "", "", line)
        case Cancel(cause):
            return (lease.id, lease.token, "C", cause, "", line)
        case Release():
            return (lease.id, lease.token, "Q", "", "", line)
        case _ as never:
            assert_never(never)


def claimed(
    claims: Sequence[Any], *, started_us: int, held_until: float
) -> tuple[list[Lease], list[tuple[Lease, DecodeError]]]:
    """step.lua's claims -> the leases, and those whose tasks cannot be read, with why."""
    leases: list[Lease] = []
    broken: list[tuple[Lease, DecodeError]] = []
    for at in range(0, len(claims), 5):
        id, stored, token, attempt, queued_us = claims[at : at + 5]
        error = None
        try:
            spec = codec.decode_spec(stored)
        except DecodeError as exc:
            error, spec = exc, Spec(type="")
        lease = Lease(
            id=id.decode(),
            spec=spec,
            token=int(token),
            attempt=int(attempt),
            queued_us=int(queued_us),
            started_us=started_us,
            held_until=held_until,
            created_ms=codec.created_ms(stored),
        )
        if error is None:
            leases.append(lease)
        else:
            broken.append((lease, error))
    return leases, broken


def priority_sample(name: str, fields: Sequence[Any], *, at_ms: int) -> PrioritySample:
    """What sample.lua answers of a priority."""
    ready, scheduled, retry, dead, oldest_us, due_ms = fields
    return PrioritySample(
        name,
        ready,
        scheduled,
        retry,
        dead,
        max(0.0, at_ms / 1000 - float(oldest_us) / 1e6) if oldest_us else None,
        max(0.0, (at_ms - float(due_ms)) / 1000) if due_ms else None,
    )


def text(value: Any) -> str:
    """A reply that redis-py may have decoded, or not."""
    return value.decode() if isinstance(value, bytes) else str(value)


def pairs(flat: Sequence[Any]) -> list[tuple[Any, Any]]:
    """A flat or nested reply of pairs -> tuples: RESP2 and RESP3 differ."""
    if flat and isinstance(flat[0], list | tuple):
        return [(pair[0], pair[1]) for pair in flat]
    return list(zip(flat[::2], flat[1::2], strict=True))


def info(reply: Any) -> dict[str, str]:
    """INFO's fields."""
    if isinstance(reply, dict):  # redis-py parses INFO itself
        return {str(key): str(value) for key, value in reply.items()}
    return dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line)
