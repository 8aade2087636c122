"""The ledger: what must hold of any two readings of the store with one verb between them, whatever a model says."""

from collections import Counter
from collections.abc import Iterable

from taskward import codec
from taskward.task import TERMINAL, TRANSITIONS, State
from tests.model.books import ENDS, STATES, Claimed
from tests.support.store import Contents

# What a verb may do to a task it is called for; a step may do several of its moves at once.
ONE_MOVE: dict[str, frozenset[tuple[State | None, State | None]]] = {
    "submit": frozenset({(None, State.QUEUED), (None, State.SCHEDULED)}),
    "reap": frozenset(
        {
            (State.RUNNING, State.QUEUED),
            (State.RUNNING, State.RETRYING),
            (State.RUNNING, State.DEAD),
            (State.CANCELLING, State.CANCELLED),
        }
    ),
    "cancel": frozenset(
        {(waits, State.CANCELLED) for waits in (State.SCHEDULED, State.QUEUED, State.RETRYING)}
        | {(State.RUNNING, State.CANCELLING)}
    ),
    "purge": frozenset((waits, State.CANCELLED) for waits in (State.SCHEDULED, State.QUEUED, State.RETRYING)),
    "redrive": frozenset({(State.DEAD, State.QUEUED), (State.DEAD, State.SCHEDULED)}),
    "discard": frozenset({(State.DEAD, None)}),
    "run_now": frozenset({(State.SCHEDULED, State.QUEUED), (State.RETRYING, State.QUEUED)}),
    "forget": frozenset({(ended, None) for ended in TERMINAL}),
}
MOST_MOVES_OF_A_STEP = 4


class Ledger:
    """Checks each reading against the one before. `counts` says how often each move was seen."""

    def __init__(self, counts: Counter[str], *, max_reaps: int) -> None:
        self._counts = counts
        self._max_reaps = max_reaps
        self._states: dict[str, State] = {}
        self._fence = 0
        self._tokens: dict[str, list[int]] = {}
        self._accepted: set[int] = set()
        self._created = self._forgotten = 0

    def check(self, verb: str, contents: Contents) -> None:
        """After every verb."""
        self._check_places(contents)
        self._check_records(contents)
        states = {id: _state(id, contents) for id in contents.get("spec", {})}
        for id in self._states.keys() | states.keys():
            self._check_move(verb, self._states.get(id), states.get(id))
        self._states = states
        assert self._created - self._forgotten == len(states)

    def granted(self, claims: Iterable[Claimed], *, replay: bool = False) -> None:
        """After a claim: its tokens are larger than every earlier one, or, in a replay, known."""
        for claim in claims:
            known = self._tokens.setdefault(claim.id, [])
            if replay:
                assert claim.token == known[-1], "a replay answers the newest token only"
            else:
                assert claim.token > max((t for tokens in self._tokens.values() for t in tokens), default=0)
                known.append(claim.token)

    def settled(self, verdicts: Iterable[tuple[int, str]]) -> None:
        """After settlements: a token is accepted once."""
        for token, verdict in verdicts:
            if verdict not in "!=":
                assert token not in self._accepted
                self._accepted.add(token)

    def _check_places(self, contents: Contents) -> None:
        specs = set(contents.get("spec", {}))
        members = [id for name, there in contents.items() if _is_place(name) for id in there]
        assert sorted(members) == sorted(specs), "every task is in exactly one place"
        for name in ("record", "ended", "result", "history", "progress"):
            assert set(contents.get(name, {})) <= specs, f"{name} without a task"
        assert set(contents.get("cancel", {})) <= set(contents.get("running", {}))
        assert set(contents.get("idempotency", {})) == set(contents.get("idempotency_expiry", {}))

    def _check_records(self, contents: Contents) -> None:
        live, ended = contents.get("record", {}), contents.get("ended", {})
        assert not live.keys() & ended.keys()
        records = {id: codec.decode_record(text.encode()) for id, text in (live | ended).items()}
        assert {id for id, r in records.items() if r.state == "R"} == set(contents.get("running", {}))
        assert {id for id, r in records.items() if r.state in ENDS} == set(contents.get("done", {})) == set(ended)
        assert {id for id, r in records.items() if r.state == "S"} >= set(contents.get("result", {}))
        fence = int(contents.get("fence", 0))
        assert fence >= self._fence
        self._fence = fence
        for id, r in records.items():
            assert r.token <= fence
            assert r.token in (0, *self._tokens.get(id, ())) or r.state == "R"
            assert (r.attempt >= 1) if r.state == "R" else (r.attempt >= 0)
            assert 0 <= r.reaps <= self._max_reaps
            assert r.reaps < self._max_reaps or r.state == "D" or (r.state, r.token) == ("C", 0)

    def _check_move(self, verb: str, before: State | None, after: State | None) -> None:
        if before is after:
            return
        self._created += before is None
        self._forgotten += after is None
        self._counts[f"{before or 'new'} -> {after or 'gone'}"] += 1
        if verb == "step":
            assert before is not None
            assert after is not None
            assert after in _reachable(before), f"{before} -> {after} by a step"
        else:
            assert (before, after) in ONE_MOVE.get(verb, ()), f"{before} -> {after} by {verb}"
            assert before is None or after is None or after in TRANSITIONS[before]


def _is_place(name: str) -> bool:
    return name in ("running", "done") or name.partition(":")[0] in STATES


def _state(id: str, contents: Contents) -> State:
    place = next(name for name, there in contents.items() if _is_place(name) and id in there).partition(":")[0]
    if place == "running":
        return State.CANCELLING if id in contents.get("cancel", {}) else State.RUNNING
    return ENDS[contents["ended"][id][0]] if place == "done" else STATES[place]


def _reachable(before: State) -> set[State]:
    """By a few legal moves, none of them out of an end."""
    reached = frontier = {before}
    for _ in range(MOST_MOVES_OF_A_STEP):
        frontier = {after for state in frontier - TERMINAL for after in TRANSITIONS[state]}
        reached = reached | frontier
    return reached
