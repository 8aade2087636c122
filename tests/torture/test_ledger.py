"""The judge sees what it is there to see: each wrong, made up by hand, is found, and what is explained is not one."""

import json
from dataclasses import replace
from typing import Any

from tests.torture.ledger import Run, Settled, Verdict, judge, read_runs, read_settled

FIRST, SECOND = 1_700_000_000_000_000, 1_700_000_005_000_000
A = Run("t", FIRST, pid=10, wall=FIRST / 1e6 + 0.2, began=100.0, ended=104.0, how="done")
B = Run("t", SECOND, pid=20, wall=SECOND / 1e6 + 0.2, began=103.0, ended=106.0, how="done")


def attempt(run: Run, outcome: str) -> dict[str, Any]:
    started_at = {FIRST: "2023-11-14T22:13:20.000Z", SECOND: "2023-11-14T22:13:25.000Z"}[run.token]
    return {"started_at": started_at, "worker_id": f"host:{run.pid}:abc", "outcome": outcome}


def task(*attempts: dict[str, Any], token: int | None = SECOND, state: str = "succeeded") -> dict[str, Any]:
    return {"id": "t", "state": state, "terminal": state != "running", "token": token, "attempts": attempts}


def judged(
    found: dict[str, Any], *runs: Run, settled: tuple[Settled, ...] = (), deaths: dict[int, float] | None = None
) -> Verdict:
    return judge(["t"], {"t": found}, runs, settled, deaths=deaths or {})


def test_one_run_and_its_end() -> None:
    verdict = judged(task(), B, settled=(Settled("t", SECOND, "succeeded"),))
    assert not verdict.wrong
    assert (verdict.acknowledged, verdict.runs, verdict.duplicates, verdict.overlaps) == (1, 1, 0, 0)


def test_a_task_that_has_not_ended_or_is_not_there_is_lost() -> None:
    assert judged(task(state="running")).lost == 1
    assert judge(["t", "u"], {"t": task()}, [], [], deaths={}).wrong == {"lost": ["u: unknown"]}


def test_a_run_that_nobody_asked_for() -> None:
    assert "ran, but was never stored" in judge([], {}, [A], [], deaths={}).wrong


def test_a_run_that_no_lease_accounts_for() -> None:
    assert "a run without a lease" in judged(task(), A, B).wrong
    other_worker = replace(A, pid=11)
    assert "a run without a lease" in judged(task(attempt(A, "reaped")), other_worker, B).wrong
    later = replace(A, token=FIRST + 100_000, wall=A.wall + 0.1)
    assert "a run without a lease" in judged(task(attempt(A, "reaped")), later, B).wrong


def test_a_claim_whose_answer_was_lost_starts_with_the_answer_to_its_repetition() -> None:
    claimed_before = replace(A, token=FIRST - 3_000_000)
    assert not judged(task(attempt(A, "reaped")), claimed_before, B).wrong


def test_an_overlap_is_explained_by_a_lost_lease_and_by_nothing_else() -> None:
    verdict = judged(task(attempt(A, "reaped")), A, B)
    assert (verdict.overlaps, verdict.duplicates, verdict.wrong) == (1, 1, {})
    wrong = judged(task(attempt(A, "released")), A, B).wrong
    assert set(wrong) == {"two valid leases at a time", "a duplicate without a lost lease"}


def test_a_run_cut_off_lasts_until_its_process_was_gone() -> None:
    cut_off = replace(A, ended=None, how="")
    assert judged(task(attempt(A, "reaped")), cut_off, B, deaths={10: 102.0}).overlaps == 0
    assert judged(task(attempt(A, "reaped")), cut_off, B, deaths={10: 105.0}).overlaps == 1
    assert judged(task(attempt(A, "reaped")), cut_off, B).overlaps == 1


def test_a_failed_attempt_is_no_duplicate() -> None:
    failed = replace(A, ended=102.0, how="failed")
    verdict = judged(task(attempt(A, "failed")), failed, B)
    assert (verdict.duplicates, verdict.wrong) == (0, {})


def test_an_end_that_was_told_and_did_not_stay() -> None:
    told = (Settled("t", FIRST, "succeeded"), Settled("t", SECOND, "succeeded"))
    assert "an end that did not stay" in judged(task(), B, settled=told).wrong
    assert "a token that settled twice" in judged(task(), B, settled=told[1:] * 2).wrong
    retried = (Settled("t", FIRST, "retry"), Settled("t", SECOND, "succeeded"))
    assert not judged(task(), B, settled=retried).wrong


def test_what_is_written_is_read() -> None:
    lines = [
        written("began", FIRST, pid=10, monotonic=100.0),
        written("done", FIRST, pid=10, monotonic=104.0),
        written("began", SECOND, pid=20, monotonic=103.0),
    ]
    assert read_runs(lines) == [A, replace(B, ended=None, how="")]
    log = ['{"msg":"attempt ended","task_id":"t","token":7,"then":"succeeded"}\n', "no JSON\n", '{"msg":"torn']
    assert read_settled(log) == [Settled("t", 7, "succeeded")]


def written(what: str, token: int, *, pid: int, monotonic: float) -> str:
    """As handlers do it."""
    return json.dumps(
        {"what": what, "id": "t", "token": token, "pid": pid, "wall": token / 1e6 + 0.2, "monotonic": monotonic}
    )
