"""BlockingClient: for programs without Trio that talk to Redis themselves."""

import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, Unpack

from taskward.broker import reading
from taskward.broker.batch import FIRST_PAUSE, LONGEST_PAUSE
from taskward.broker.blocking import BlockingConnection, finished
from taskward.broker.broker import Broker
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

Value = TypeVar("Value")


class BlockingClient:
    """AsyncClient's methods, which wait in the thread that calls; any number of threads may share one."""

    def __init__(self, broker: Broker, limits: Limits) -> None:
        self._broker = broker
        self._limits = limits

    def submit(self, type: str, payload: Any = None, **options: Unpack[Options]) -> Submitted:
        """Raises InvalidTask, TaskTooLarge, Conflict and QueueFull. Safe to repeat with the same `id`."""
        body = encode(Item(type=type, payload=payload, **options))
        [answer] = self._store([parse(body, self._limits, now_ms())])
        if isinstance(answer, TaskwardError):
            raise answer
        return answer

    def submit_many(self, items: Sequence[Item]) -> list[Answer]:
        """One answer an item, an error in its place where it was not taken. Raises InvalidTask for what is no JSON."""
        parts = in_parts(items)
        bodies = [encode(part) for part in parts]
        answers: list[Answer] = []
        outage: BrokerUnavailable | None = None
        for part, body in zip(parts, bodies, strict=True):
            made = parsed(part, body, self._limits)
            if outage is None:
                try:
                    answers += self._store(made)
                    continue
                except BrokerUnavailable as exc:
                    if not any(isinstance(answer, Submitted) for answer in answers):
                        raise
                    outage = exc
            answers += [outage if isinstance(item, Submission) else item for item in made]
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

    def _store(self, items: Sequence[Submission | TaskwardError]) -> list[Answer]:
        """Raises BrokerUnavailable."""
        submissions = [item for item in items if isinstance(item, Submission)]
        stored = iter(self._ask(lambda: self._broker.submit(submissions)) if submissions else ())
        replies = [next(stored) if isinstance(item, Submission) else item for item in items]
        return [reply if isinstance(reply, Submitted | TaskwardError) else refused(reply) for reply in replies]

    def _ask(self, call: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """What the store answers; where there is none, it is asked again for PATIENCE_SECONDS."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        pause = FIRST_PAUSE
        while True:
            try:
                return finished(call())
            except BrokerUnavailable:
                if time.monotonic() + pause > give_up:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


@contextmanager
def open_blocking_client(redis_url: str, *, config: Config | None = None, queue: str = "") -> Iterator[BlockingClient]:
    """A client for as long as the block runs, as `open_client` in Trio. Raises ConfigError for a bad URL."""
    config = settings(config, queue)
    connection = BlockingConnection(redis_url, name="taskward-client", queue=config.queue)
    try:
        yield BlockingClient(Broker.of(config, connection, observe=ignore), Limits.of(config))
    finally:
        connection.close()
