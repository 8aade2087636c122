"""Gateway: submissions in, tasks out. What many callers want at the same moment shares a round trip."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

import msgspec
import trio

from taskward.broker import reading
from taskward.broker.batch import Batcher
from taskward.broker.broker import MOST_PER_CALL, Broker, Refusal
from taskward.errors import BrokerUnavailable, Conflict, DecodeError, MemoryLow, QueueFull, TaskNotFound, TaskwardError
from taskward.events import Observer, TasksSubmitted
from taskward.task import CancelCause, State, Submission, Submitted, Task

# For so long a call that found no Redis is repeated before the caller hears of it.
PATIENCE_SECONDS = 2.0
READS_PER_CALL = 64
# Looks at a task somebody waits for: the first pause, and the longest.
FIRST_LOOK_SECONDS = 0.005
LONGEST_LOOK_SECONDS = 0.2

Answer = Submitted | TaskwardError


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
        self._bulk = Batcher(self._store_bulk, most=1, patience=PATIENCE_SECONDS, calls=2)
        self._reads = Batcher(self._read, most=READS_PER_CALL, patience=PATIENCE_SECONDS)
        self.closing = trio.Event()

    async def run(self) -> None:
        """Send what is asked for, until cancelled."""
        async with trio.open_nursery() as pumps:
            for batcher in (self._single, self._bulk, self._reads):
                pumps.start_soon(batcher.run)

    async def submit(self, submission: Submission) -> Submitted:
        """Store a task. Raises Conflict, QueueFull and MemoryLow."""
        answer = await self._single(submission)
        if isinstance(answer, TaskwardError):
            raise answer
        return answer

    async def submit_many(self, items: Sequence[Submission | TaskwardError]) -> list[Answer]:
        """Store many: for each what `submit` would return or raise; errors among the items stay in their places.

        BrokerUnavailable is raised where nothing was stored; later it is the answer of all that were not.
        """
        submissions = [item for item in items if isinstance(item, Submission)]
        answers: list[Answer] = []
        for first in range(0, len(submissions), MOST_PER_CALL):
            try:
                answers += await self._bulk(submissions[first : first + MOST_PER_CALL])
            except BrokerUnavailable as exc:
                if not answers:
                    raise
                answers += [exc] * (len(submissions) - first)
                break
        stored = iter(answers)
        return [next(stored) if isinstance(item, Submission) else item for item in items]

    async def get(self, id: str) -> Task:
        """Raises TaskNotFound; DecodeError where the stored bytes are no task."""
        found = await self._reads(id)
        if found is None:
            raise TaskNotFound(f"no task {id[:64]}")
        if isinstance(found, DecodeError):
            raise found
        return found

    async def wait(self, id: str, *, seconds: float) -> Task:
        """The task as soon as it is terminal, or else as it is after `seconds`. Raises like `get`."""
        give_up = trio.current_time() + seconds
        pause = FIRST_LOOK_SECONDS
        while True:
            task = await self.get(id)
            left = give_up - trio.current_time()
            if task.terminal or left <= 0 or self.closing.is_set():
                return task
            with trio.move_on_after(min(pause, left)):
                await self.closing.wait()
            pause = min(1.5 * pause, LONGEST_LOOK_SECONDS)

    async def cancel(self, id: str) -> State:
        """End a waiting task, ask a running one to stop. -> the state it is in now. Raises TaskNotFound."""
        state = await self._broker.cancel(id, cause=CancelCause.USER)
        if state is None:
            raise TaskNotFound(f"no task {id[:64]}")
        return state

    async def _store(self, submissions: Sequence[Submission]) -> list[Answer]:
        closed = self._closed()
        replies = await self._broker.submit(submissions, closed=closed)
        self._tell(submissions, replies)
        return [
            reply if isinstance(reply, Submitted) else self._refusal(reply, memory=made.spec.priority in closed)
            for made, reply in zip(submissions, replies, strict=True)
        ]

    async def _store_bulk(self, parts: list[Sequence[Submission]]) -> list[list[Answer]]:
        return [await self._store(part) for part in parts]

    async def _read(self, ids: list[str]) -> list[Task | DecodeError | None]:
        return await reading.each(self._broker, ids)

    def _refusal(self, reply: Refusal, *, memory: bool) -> TaskwardError:
        if reply.conflict:
            return Conflict(f"task {reply.id} was submitted under this id or idempotency key, and is a different one")
        retry_after = self._retry_after(reply.waiting)
        if memory:
            return MemoryLow(retry_after=retry_after)
        return QueueFull(f"{reply.waiting} tasks wait already", retry_after=retry_after)

    def _tell(self, submissions: Sequence[Submission], replies: Sequence[Submitted | Refusal]) -> None:
        created: dict[str, int] = defaultdict(int)
        duplicates: dict[str, int] = defaultdict(int)
        size: dict[str, int] = defaultdict(int)
        for submission, reply in zip(submissions, replies, strict=True):
            priority = submission.spec.priority
            if not isinstance(reply, Submitted):
                continue
            if reply.created:
                created[priority] += 1
                size[priority] += len(_encode(submission.spec.payload))
            else:
                duplicates[priority] += 1
        for priority in created.keys() | duplicates.keys():
            self._observe(TasksSubmitted(priority, created[priority], duplicates[priority], size[priority]))


_encode = msgspec.json.Encoder().encode
