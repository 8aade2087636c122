"""What Hypothesis draws from: few ids, few keys, and times that meet."""

from typing import Any

from hypothesis import strategies as st

from taskward import codec
from taskward.broker.broker import Terms
from taskward.errors import InvalidTask
from taskward.policy.retry import Bury, Cancel, Complete, Decision, Release, RetryIn
from taskward.task import Attempt, CancelCause, Spec, Submission
from tests.support.rig import PRIORITIES

TERMS = Terms(
    lease_ms=10_000,
    result_ttl_ms=60_000,
    dlq_ttl_ms=120_000,
    idempotency_ttl_ms=90_000,
    max_reaps=3,
    max_queue_depth=3,
    reaper_interval_ms=1000,
    wait_replicas=0,
)
IDS = st.sampled_from("abcde")
WORKERS = st.sampled_from(["w1", "w2"])
PRIORITY = st.sampled_from(PRIORITIES)
# How many, and how many of them the highest priority may fill first.
WANTED = st.integers(0, 3).flatmap(lambda wanted: st.tuples(st.just(wanted), st.integers(0, wanted)))
AGAIN = st.booleans()
EVERY_DECISION = [
    Complete(b'"x"'),
    Complete(b"null"),
    RetryIn(0.0, "exception"),
    RetryIn(1.5, "exception"),
    RetryIn(30.0, "exception"),
    RetryIn(1.5, "unknown_type", counted=False),
    Bury("exception"),
    Cancel(CancelCause.DEADLINE),
    Release(CancelCause.SHUTDOWN),
]
DECISIONS = st.sampled_from(EVERY_DECISION)
LINE = codec.encode_attempt(
    Attempt(n=1, worker_id="w1", queued_ms=1, started_ms=2, finished_ms=3, outcome="failed", error=None)
)
# Which of the leases ever granted: 0 is the latest.
LEASE = st.integers(0, 9)
FORWARD_MS = st.sampled_from([1, 250, 1000, 5000, TERMS.lease_ms - 1, TERMS.lease_ms, 35_000])
# When a task may start, and by when it must: ms from now.
DUE = st.sampled_from([None, None, None, ("delay_ms", 1), ("delay_ms", 4000), ("run_at_ms", -9), ("run_at_ms", 2000)])
BOUND = st.sampled_from([None, None, None, None, None, ("expires_ms", 900), ("deadline_ms", 12_000)])


# id, priority, due, bound, idempotency key, payload
Fields = tuple[str, str, tuple[str, int] | None, tuple[str, int] | None, str | None, int]
Settlement = tuple[str, int, Decision, bytes]


def submission(now_ms: int, fields: Fields, late: InvalidTask | None = None) -> Submission:
    """From what Hypothesis drew; run_at, expiry and deadline are counted from now."""
    id, priority, due, bound, key, payload = fields
    times: dict[str, Any] = {}
    for what in (due, bound):
        if what is not None:
            name, ms = what
            times[name] = ms if name == "delay_ms" else now_ms + ms
    return Submission(id, Spec(type="t", priority=priority, payload=payload, idempotency_key=key, **times), late=late)


def shares(wanted: int, high: int) -> tuple[int, int]:
    """What Broker.step takes."""
    return high, wanted - high


LATE = st.sampled_from([None] * 7 + [InvalidTask("in the past", pointer="/deadline")])
KEY = st.sampled_from([None, None, None, "k1", "k2"])
PAYLOAD = st.sampled_from([1, 1, 1, 2])
SUBMISSION = st.tuples(IDS, PRIORITY, DUE, BOUND, KEY, PAYLOAD)
SETTLEMENTS = st.lists(st.tuples(LEASE, DECISIONS, st.sampled_from([b"", LINE])), max_size=3)
