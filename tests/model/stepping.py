"""The two halves of a step, in the model: settlements, and the claim."""

from collections.abc import Iterable, Sequence

from taskward.policy.retry import Bury, Cancel, Complete, Decision, Release, RetryIn
from tests.model.books import NEVER_RAN, Books, Claimed, Held


def settle(books: Books, id: str, token: int, decision: Decision, line: bytes) -> str:
    task = books.tasks.get(id)
    if task is None or task.record is None or task.record.token != token:
        return "!"
    if task.record.state != "R":
        return "="
    cause, task.cancel = task.cause, None
    if cause and isinstance(decision, RetryIn | Release | Cancel):
        letter = _end(books, task, "C", cause)
    else:
        letter = _decided(books, task, decision)
    task.history += line.decode() + "\n" if line else ""
    return letter


def _decided(books: Books, task: Held, decision: Decision) -> str:
    assert task.record is not None
    now = books.now_ms
    match decision:
        case Complete(result):
            task.result = None if result == b"null" else result.decode()
            return _end(books, task, "S", None)
        case Cancel(cause):
            return _end(books, task, "C", cause)
        case RetryIn(seconds, counted=counted):
            attempt = task.record.attempt - (not counted)
            task.moved("retry", now + round(seconds * 1000), state="T", finished_ms=now, attempt=attempt)
            return "T"
        case Bury():
            task.moved("dead", now, state="D", finished_ms=now)
            return "D"
        case Release():
            attempt = task.record.attempt - 1
            task.moved("ready", task.record.queued_us, state="Q", finished_ms=now, attempt=attempt)
            return "Q"


def _end(books: Books, task: Held, letter: str, cause: str | None) -> str:
    until = books.now_ms + books.terms.result_ttl_ms
    task.moved("done", until, state=letter, finished_ms=books.now_ms, cause=cause)
    return letter


def replayed(books: Books, granted: Iterable[tuple[str, int]]) -> tuple[Claimed, ...]:
    claims = []
    for id, token in granted:
        task = books.holding(id, token)
        if task is not None and task.record is not None:
            task.score = books.now_ms + books.terms.lease_ms
            claims.append(Claimed(id, token, task.record.attempt, task.record.queued_us))
    return tuple(claims)


def promote(books: Books) -> None:
    for task in books.at("scheduled") + books.at("retry"):
        if task.score <= books.now_ms:
            task.moved("ready", 1000 * task.score)


def choose(books: Books, wanted: int, shares: Sequence[int]) -> list[Held]:
    ready = {p: [] if p in books.paused else books.at("ready", p) for p in books.priorities}
    chosen: list[Held] = []
    for priority, share in zip(books.priorities, shares, strict=True):
        chosen += ready[priority][:share]
        ready[priority] = ready[priority][share:]
    for priority in books.priorities:
        chosen += ready[priority][: wanted - len(chosen)]
    return chosen


def lease(books: Books, worker: str, number: int, chosen: Sequence[Held]) -> tuple[tuple[Claimed, ...], int]:
    claims, granted = [], []
    if chosen:
        books.fence = max(books.fence, books.now_us)
    for task in chosen:
        books.fence += 1
        granted.append((task.id, books.fence))
        before = task.record or NEVER_RAN
        fixed = {"priority": task.priority, "queued_us": task.score, "cause": None}
        if task.start_by is not None and task.start_by <= books.now_ms:
            ended = {"state": "E", "token": 0, "finished_ms": books.now_ms, "worker": "", "started_ms": None}
            task.moved("done", books.now_ms + books.terms.result_ttl_ms, **fixed, **ended)
            continue
        begun = {"state": "R", "token": books.fence, "finished_ms": None, "started_ms": books.now_ms}
        claims.append(Claimed(task.id, books.fence, before.attempt + 1, task.score))
        more = {"worker": worker, "attempt": before.attempt + 1}
        task.moved("running", books.now_ms + books.terms.lease_ms, **fixed, **begun, **more)
    books.claims[worker] = (number, tuple(granted))
    return tuple(claims), len(chosen) - len(claims)


def next_due(books: Books) -> float | None:
    due = [t.score for t in books.at("scheduled") + books.at("retry") if t.priority not in books.paused]
    return max(0, min(due) - books.now_ms) / 1000 if due else None
