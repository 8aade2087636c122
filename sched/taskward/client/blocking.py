"""BlockingClient: for programs without Trio that talk to Redis themselves."""

import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar, Unpack

from taskward.broker import reading
from taskward.broker.batch import FIRST_PAUSE, LONGEST_PAUSE
from taskward.broker.blocking import BlockingConnection, begun, finished
from taskward.broker.broker import LARGEST_CALL, Broker
from taskward.broker.messages import Refusal
from taskward.client.fields import Item, Options, encode
from taskward.client.gateway import (
    FIRST_LOOK_SECONDS,
    LONGEST_LOOK_SECONDS,
    PATIENCE_SECONDS,
    Answer,
    found_state,
    found_task,
    in_parts,
    refused,
)
from taskward.client.local import now_ms, parsed, settings
from taskward.client.view import TaskView, view
from taskward.config import Config
from taskward.errors import BrokerUnavailable, TaskwardError
from taskward.events import ignore
from taskward.submission import Limits, parse
from taskward.task import CancelCause, State, Submission, Submitted, Task

# Tasks of a batch that are sent together: the next are made and sent while the store is at work on them.
PART = 128

Value = TypeVar("Value")


class BlockingClient:
    """AsyncClient's methods, which wait in the thread that calls; any number of threads may share one."""

    def __init__(self, connection: BlockingConnection, broker: Broker, limits: Limits) -> None:
        self._connection = connection
        self._broker = broker
        self._limits = limits

    def submit(self, type: str, payload: Any = None, **options: Unpack[Options]) -> Submitted:
        """Raises InvalidTask, TaskTooLarge, Conflict and QueueFull. Safe to repeat with the same `id`."""
        body = encode(Item(type=type, payload=payload, **options))
        submission = parse(body, self._limits, now_ms())
        [answer] = self._ask(lambda: self._broker.submit([submission]))
        if isinstance(answer, Refusal):
            raise refused(answer)
        return answer

    def submit_many(self, items: Sequence[Item]) -> list[Answer]:
        """One answer an item, an error in its place where it was not taken. Raises InvalidTask for what is no JSON."""
        parts = in_parts(items, most=PART)
        bodies = [encode(part) for part in parts]
        made = (parsed(part, body, self._limits) for part, body in zip(parts, bodies, strict=True))
        answers: list[Answer] = []
        outage: BrokerUnavailable | None = None
        ahead = max(map(len, bodies), default=0) < LARGEST_CALL // 2  # each part is one call
        with self._connection.in_a_row() as row:
            broker = self._broker.over(row)
            stored = ((part, self._store(broker, part, at_once=ahead and row.smooth)) for part in made)
            for part, answered in one_ahead(stored):
                if outage is None:
                    try:
                        answers += answered()
                        continue
                    except BrokerUnavailable as exc:
                        if not any(isinstance(answer, Submitted) for answer in answers):
                            raise
                        outage = exc
                answers += [outage if isinstance(item, Submission) else item for item in part]
        return answers

    def get(self, id: str) -> TaskView:
        """Raises TaskNotFound."""
        return view(self._get(id), now_ms())

    def wait(self, id: str, *, seconds: float) -> TaskView:
        """The task as soon as it is terminal, or else as it is after `seconds`. Raises TaskNotFound."""
        give_up = time.monotonic() + seconds
        pause = FIRST_LOOK_SECONDS
        while True:
            task = self._get(id)
            left = give_up - time.monotonic()
            if task.terminal or left <= 0:
                return view(task, now_ms())
            time.sleep(min(pause, left))
            pause = min(1.5 * pause, LONGEST_LOOK_SECONDS)

    def cancel(self, id: str) -> State:
        """-> the state it is in now: `cancelling` while its worker stops it. Raises TaskNotFound."""
        return found_state(id, self._ask(lambda: self._broker.cancel(id, cause=CancelCause.USER)))

    def _get(self, id: str) -> Task:
        [found] = self._ask(lambda: reading.each(self._broker, [id]))
        return found_task(id, found)

    def _store(
        self, broker: Broker, items: Sequence[Submission | TaskwardError], *, at_once: bool = True
    ) -> Callable[[], list[Answer]]:
        """Returns a function that waits for the answers (raises BrokerUnavailable).

        With `at_once` the submissions are sent now; otherwise that function sends them.
        """
        submissions = [item for item in items if isinstance(item, Submission)]
        call = partial(broker.submit, submissions)
        asked: Coroutine[Any, Any, list[Submitted | Refusal]] | None = None
        if submissions and at_once:
            with suppress(BrokerUnavailable):
                asked = begun(call())

        def answered() -> list[Answer]:
            stored = iter(self._ask(call, asked) if submissions else ())
            replies = [next(stored) if isinstance(item, Submission) else item for item in items]
            return [reply if isinstance(reply, Submitted | TaskwardError) else refused(reply) for reply in replies]

        return answered

    def _ask(
        self, call: Callable[[], Coroutine[Any, Any, Value]], asked: Coroutine[Any, Any, Value] | None = None
    ) -> Value:
        """What the store answers to what was `asked`, or to a call; where there is none, it is asked again for
        PATIENCE_SECONDS.
        """
        give_up = time.monotonic() + PATIENCE_SECONDS
        pause = FIRST_PAUSE
        while True:
            try:
                return finished(asked or call())
            except BrokerUnavailable:
                if time.monotonic() + pause > give_up:
                    raise
            asked = None
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


@contextmanager
def open_blocking_client(redis_url: str, *, config: Config | None = None, queue: str = "") -> Iterator[BlockingClient]:
    """A client for as long as the block runs, as `open_client` in Trio. Raises ConfigError for a bad URL."""
    config = settings(config, queue)
    connection = BlockingConnection(redis_url, name="taskward-client", queue=config.queue)
    try:
        yield BlockingClient(connection, Broker.of(config, connection, observe=ignore), Limits.of(config))
    finally:
        connection.close()


def one_ahead(values: Iterable[Value]) -> Iterator[Value]:
    """The same, each once the one behind it has been made."""
    ahead: deque[Value] = deque()
    for value in values:
        ahead.append(value)
        if len(ahead) > 1:
            yield ahead.popleft()
    yield from ahead
