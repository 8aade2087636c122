"""Gateway: submissions in, tasks out. What many callers want at the same moment shares a round trip."""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
import trio

from taskward.broker import messages, reading
from taskward.broker.batch import Batcher, patiently
from taskward.broker.broker import MOST_PER_CALL, Broker
from taskward.broker.messages import Refusal
from taskward.client.ahead import let_go, worked_ahead
from taskward.errors import BrokerUnavailable, Conflict, DecodeError, MemoryLow, QueueFull, TaskNotFound, TaskwardError
from taskward.events import Observer, TasksSubmitted
from taskward.task import CancelCause, State, Submission, Submitted, Task

# For so long a call that found no Redis is repeated before the caller hears of it.
PATIENCE_SECONDS = 2.0
READS_PER_CALL = 64
# Parts under way: of one batch, while the store works on one, the next is packed for it; of different batches, both
# are in the store's hands.
AT_ONCE = 2
# Looks at a task somebody waits for: the first pause, and the longest.
FIRST_LOOK_SECONDS = 0.005
LONGEST_LOOK_SECONDS = 0.2

Answer = Submitted | TaskwardError
Item = TypeVar("Item")


class Gateway:
    """Its owner runs `run` beside the callers. Every method raises BrokerUnavailable.

    `retry_after` turns the number of waiting tasks into the seconds a refused client should wait; `closed` names the
    priorities for which Redis has no memory now.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        observe: Observer,
        retry_after: Callable[[int], float] = lambda _waiting: 1.0,
        closed: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._broker = broker
        self._observe = observe
        self._retry_after = retry_after
        self._closed = closed
        self._single = Batcher(self._store, most=MOST_PER_CALL, patience=PATIENCE_SECONDS)
        self._bulk = trio.Semaphore(AT_ONCE)
        self._reads = Batcher(self._read, most=READS_PER_CALL, patience=PATIENCE_SECONDS)
        self.closing = trio.Event()

    async def run(self) -> None:
        """Send what is asked for, until cancelled."""
        async with trio.open_nursery() as pumps:
            pumps.start_soon(self._single.run)
            pumps.start_soon(self._reads.run)

    async def submit(self, submission: Submission) -> Submitted:
        """Store a task. Raises Conflict, QueueFull and MemoryLow."""
        answer = await self._single(submission)
        if isinstance(answer, TaskwardError):
            raise answer
        return answer

    async def submit_many(
        self, items: Sequence[Submission | TaskwardError], *, turn: trio.Lock | None = None
    ) -> list[Answer]:
        """Store many: for each what `submit` would return or raise; errors among the items stay in their places.

        BrokerUnavailable is raised where nothing was stored; later it is the answer of all that were not. Of at most
        MOST_PER_CALL items, those with an earlier `turn` are stored first.
        """
        if len(items) <= MOST_PER_CALL:
            return await self._store_part(items, turn or trio.Lock())
        return await self.submit_parts(self._part_by_part(items))

    async def submit_parts(self, parts: AsyncIterator[Sequence[Submission | TaskwardError]]) -> list[Answer]:
        """The same for many in parts of at most MOST_PER_CALL, which are stored in their order, AT_ONCE under way."""
        outage: BrokerUnavailable | None = None
        turn = trio.Lock()

        async def store(part: Sequence[Submission | TaskwardError]) -> list[Answer]:
            nonlocal outage
            if outage is None:
                try:
                    return await self._store_part(part, turn)
                except BrokerUnavailable as exc:
                    outage = exc
            return [outage if isinstance(item, Submission) else item for item in part]

        answers: list[Answer] = []
        async with trio.open_nursery() as storing:
            async for stored in worked_ahead(parts, store, storing, at_once=AT_ONCE):
                answers += stored
        if outage is not None and not any(isinstance(answer, Submitted) for answer in answers):
            raise outage
        return answers

    async def get(self, id: str) -> Task:
        """Raises TaskNotFound; DecodeError where the stored bytes are no task."""
        return found_task(id, await self._reads(id))

    async def wait(self, id: str, *, seconds: float) -> Task:
        """The task as soon as it is terminal, or else as it is after `seconds`. Raises like `get`."""
        give_up = trio.current_time() + seconds
        pause = FIRST_LOOK_SECONDS
        while True:
            task = await self.get(id)
            left = give_up - trio.current_time()
            if task.terminal or left <= 0 or self.closing.is_set():
                return task
            await self.pause(min(pause, left))
            pause = min(1.5 * pause, LONGEST_LOOK_SECONDS)

    async def looks(self, id: str) -> AsyncIterator[Task | None]:
        """The task again and again, the more often the less long ago it has changed; None while Redis is away.

        Ends with the first look after its end, or when the process is to end. Raises TaskNotFound and DecodeError.
        """
        before: Task | None = None
        pause = FIRST_LOOK_SECONDS
        while not self.closing.is_set():
            try:
                task = await self.get(id)
            except BrokerUnavailable:
                yield None
            else:
                yield task
                if task.terminal:
                    return
                pause = FIRST_LOOK_SECONDS if task != before else min(1.5 * pause, LONGEST_LOOK_SECONDS)
                before = task
            await self.pause(pause)

    async def pause(self, seconds: float) -> None:
        """Sleep so long, or until the process is to end."""
        with trio.move_on_after(seconds):
            await self.closing.wait()

    async def cancel(self, id: str) -> State:
        """End a waiting task, ask a running one to stop. -> the state it is in now. Raises TaskNotFound."""
        return found_state(id, await self._broker.cancel(id, cause=CancelCause.USER))

    async def _part_by_part(self, items: Sequence[Item]) -> AsyncIterator[Sequence[Item]]:
        for part in in_parts(items):
            yield part

    async def _store_part(self, part: Sequence[Submission | TaskwardError], turn: trio.Lock) -> list[Answer]:
        """Packing and reading overlap with the store's work on other parts; in the store it waits for its turn."""
        submissions = [item for item in part if isinstance(item, Submission)]
        closed = self._closed()
        replies: list[Submitted | Refusal] = []
        for packed in self._broker.packed(submissions, closed=closed) if submissions else ():
            async with turn, self._bulk:
                reply = await patiently(partial(self._broker.store, packed), seconds=PATIENCE_SECONDS)
            await let_go()
            replies += messages.submitted(packed, reply)
        stored = iter(self._answers(submissions, replies, closed))
        return [next(stored) if isinstance(item, Submission) else item for item in part]

    async def _store(self, submissions: Sequence[Submission]) -> list[Answer]:
        closed = self._closed()
        return self._answers(submissions, await self._broker.submit(submissions, closed=closed), closed)

    def _answers(
        self, submissions: Sequence[Submission], replies: Sequence[Submitted | Refusal], closed: Collection[str]
    ) -> list[Answer]:
        """What the store has replied, in the errors of this side. The observer hears of it."""
        self._observe_submitted(submissions, replies)
        return [
            reply
            if isinstance(reply, Submitted)
            else refused(reply, self._retry_after(reply.waiting), memory=made.spec.priority in closed)
            for made, reply in zip(submissions, replies, strict=True)
        ]

    async def _read(self, ids: list[str]) -> list[Task | DecodeError | None]:
        return await reading.each(self._broker, ids)

    def _observe_submitted(self, submissions: Sequence[Submission], replies: Sequence[Submitted | Refusal]) -> None:
        created: dict[str, list[Any]] = defaultdict(list)
        duplicates: dict[str, int] = defaultdict(int)
        for submission, reply in zip(submissions, replies, strict=True):
            if not isinstance(reply, Submitted):
                continue
            if reply.created:
                created[submission.spec.priority].append(submission.spec.payload)
            else:
                duplicates[submission.spec.priority] += 1
        for priority in created.keys() | duplicates.keys():
            payloads = created[priority]
            self._observe(TasksSubmitted(priority, len(payloads), duplicates[priority], _total_bytes(payloads)))


def refused(reply: Refusal, retry_after: float = 1.0, *, memory: bool = False) -> TaskwardError:
    """Why the store did not take a task; `memory`: because of its priority Redis has too little left."""
    if reply.late is not None:
        return reply.late
    if reply.conflict:
        return Conflict(f"task {reply.id} was submitted under this id or idempotency key, and is a different one")
    if memory:
        return MemoryLow(retry_after=retry_after)
    return QueueFull(f"{reply.waiting} tasks wait already", retry_after=retry_after)


def found_task(id: str, found: Task | DecodeError | None) -> Task:
    """What was read. Raises TaskNotFound, and DecodeError where it is no task."""
    if found is None:
        raise TaskNotFound(f"no task {id[:64]}")
    if isinstance(found, DecodeError):
        raise found
    return found


def found_state(id: str, state: State | None) -> State:
    """What a cancel has led to. Raises TaskNotFound."""
    if state is None:
        raise TaskNotFound(f"no task {id[:64]}")
    return state


def in_parts(items: Sequence[Item], *, most: int = MOST_PER_CALL) -> list[Sequence[Item]]:
    """The same items, at most so many together, by default as many as one call may take."""
    return [items[first : first + most] for first in range(0, len(items), most)]


def _total_bytes(payloads: list[Any]) -> int:
    """Of the JSON of each: that of the list without its brackets and commas."""
    return len(msgspec.json.encode(payloads)) - len(payloads) - 1 if payloads else 0
