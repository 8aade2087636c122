"""What goes to the scripts and comes back: arguments and replies, as the values the verbs deal in."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, assert_never

import msgspec

from taskward import codec
from taskward.errors import DecodeError, InvalidTask
from taskward.events import PrioritySample
from taskward.policy.retry import Bury, Cancel, Complete, Decision, Release, RetryIn
from taskward.task import Lease, Spec, Submission, Submitted


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """A decision about a lease, to be recorded. `line` is the ended attempt for the history, b'' for none."""

    lease: Lease
    decision: Decision
    line: bytes = b""


class Packed(NamedTuple):
    """Submissions, and the argument with which they go to submit.lua."""

    submissions: Sequence[Submission]
    argument: bytes


class Refusal(msgspec.Struct, frozen=True):
    """A submission the store did not take: `conflict`, `late`, or else no room. `waiting` is the queue's depth."""

    id: str
    conflict: bool
    waiting: int
    late: InvalidTask | None = None


class Step(msgspec.Struct, frozen=True):
    """What a step answered. `verdicts` has a letter a settlement: "!" for a lost lease. `wait`: seconds until more may
    be claimed, None where nobody knows. `broken` are claimed tasks whose bytes cannot be read, with why.
    """

    verdicts: str
    leases: list[Lease]
    broken: list[tuple[Lease, DecodeError]]
    expired: int
    wait: float | None


def submission_fields(submission: Submission, *, priority: int) -> tuple[str | int, ...]:
    """What submit.lua takes of a task; `priority` is the number of its priority."""
    spec = submission.spec
    return (
        submission.id,
        priority,
        _due(spec) if submission.late is None else "!",
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
        _submitted(code, submission, holders, waiting)
        for submission, code in zip(packed.submissions, codes.decode(), strict=True)
    ]


def _submitted(code: str, submission: Submission, holders: Iterator[bytes], waiting: int) -> Submitted | Refusal:
    """What its digit means; `holders` are the ids it names, in their order."""
    match code:
        case "1":
            return Submitted(submission.id, True)
        case "2":
            return Submitted(next(holders).decode(), False)
        case "3":
            return Refusal(next(holders).decode(), True, waiting)
        case "4":
            return Refusal(submission.id, False, waiting)
        case _:
            return Refusal(submission.id, False, waiting, submission.late)


def settlement_arguments(settlements: Sequence[Settlement]) -> tuple[list[str | int], list[bytes]]:
    """What step.lua takes of settlements: their fields, and the texts that these name by number."""
    fields: list[str | int] = []
    texts: list[bytes] = []

    def numbered(text: bytes) -> int:
        if not text:
            return 0
        texts.append(text)
        return len(texts)

    for lease, decision, line in map(msgspec.structs.astuple, settlements):
        verb, argument, result = _verb(decision)
        fields += (lease.id, str(lease.token), verb, argument, numbered(result), numbered(line))
    return fields, texts


def _verb(decision: Decision) -> tuple[str, str, bytes]:
    """-> its letter, its argument, the result to keep."""
    match decision:
        case Complete(result):
            return "S", "", b"" if result == b"null" else result
        case RetryIn(seconds, counted=counted):
            return "T" if counted else "U", str(round(seconds * 1000)), b""
        case Bury():
            return "D", "", b""
        case Cancel(cause):
            return "C", cause, b""
        case Release():
            return "Q", "", b""
        case _ as never:
            assert_never(never)


def claimed(
    claims: Sequence[Any], *, started_us: int, held_until: float
) -> tuple[list[Lease], list[tuple[Lease, DecodeError]]]:
    """step.lua's claims -> the leases, and those whose tasks cannot be read, with why."""
    leases: list[Lease] = []
    broken: list[tuple[Lease, DecodeError]] = []
    if not claims:
        return leases, broken
    token, *texts, specs = claims
    ids, attempts, queued = (text.decode().split() for text in texts)
    for id, attempt, queued_us, stored in zip(ids, attempts, queued, specs, strict=True):
        token += 1
        if attempt == "0":
            continue
        error = None
        try:
            spec = codec.decode_spec(stored or b"")
        except DecodeError as exc:
            error, spec = exc, Spec(type="")
        lease = Lease(
            id=id,
            spec=spec,
            token=token,
            attempt=int(attempt),
            queued_us=int(queued_us),
            started_us=started_us,
            held_until=held_until,
            created_ms=codec.created_ms(stored or b""),
        )
        if error is None:
            leases.append(lease)
        else:
            broken.append((lease, error))
    return leases, broken


def priority_sample(name: str, fields: Sequence[Any], *, at_ms: int) -> PrioritySample:
    """What sample.lua answers of a priority."""
    ready, scheduled, retry, dead, oldest_us, due_ms, paused = fields
    return PrioritySample(
        name,
        ready,
        scheduled,
        retry,
        dead,
        max(0.0, at_ms / 1000 - float(oldest_us) / 1e6) if oldest_us else None,
        max(0.0, (at_ms - float(due_ms)) / 1000) if due_ms else None,
        bool(paused),
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
