"""Group commit: what many Trio tasks want at the same moment goes out as one call."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

from taskward.errors import BrokerUnavailable, TaskwardError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5


class _Waiting(Generic[Item, Answer]):
    __slots__ = ("answer", "done", "error", "item")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.done = trio.Event()
        self.answer: Answer | None = None
        self.error: TaskwardError | None = None


class Batcher(Generic[Item, Answer]):
    """Collects items while the previous call is under way, and sends them together.

    `flush` gets up to `most` items and answers one value each, in order; it must be safe to repeat, because a
    call whose reply was lost is repeated for `patience` seconds. While no call is under way, an item is sent by its own
    caller; what comes meanwhile is `run`'s, so a caller that is cancelled disturbs no other.
    """

    def __init__(
        self,
        flush: Callable[[list[Item]], Awaitable[list[Answer]]],
        *,
        most: int,
        patience: float,
        waiting: int = 10_000,
    ) -> None:
        self._flush = flush
        self._most = most
        self._patience = patience
        self._queue: list[_Waiting[Item, Answer]] = []
        self._under_way = False
        self._limit = waiting
        self._pump = trio.lowlevel.ParkingLot()

    async def __call__(self, item: Item) -> Answer:
        """Raises what `flush` raised for the batch; BrokerUnavailable at once where too many wait already."""
        if not self._under_way and not self._queue:
            [answer] = await self._call([item])
            return answer
        if len(self._queue) >= self._limit:
            raise BrokerUnavailable("too many requests wait for Redis")
        waiting: _Waiting[Item, Answer] = _Waiting(item)
        self._queue.append(waiting)
        await waiting.done.wait()
        if waiting.error is not None:
            raise waiting.error
        return waiting.answer  # type: ignore[return-value] # set together with `done`

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        while True:
            while not self._queue or self._under_way:
                await self._pump.park()
            batch, self._queue = self._queue[: self._most], self._queue[self._most :]
            await self._send(batch)

    async def _send(self, batch: list[_Waiting[Item, Answer]]) -> None:
        try:
            answers = await self._call([waiting.item for waiting in batch])
        except TaskwardError as exc:
            for waiting in batch:
                waiting.error = exc
        else:
            for waiting, answer in zip(batch, answers, strict=True):
                waiting.answer = answer
        for waiting in batch:
            waiting.done.set()

    async def _call(self, items: list[Item]) -> list[Answer]:
        self._under_way = True
        try:
            return await patiently(lambda: self._flush(items), seconds=self._patience)
        finally:
            self._under_way = False
            self._pump.unpark()


async def patiently(call: Callable[[], Awaitable[Answer]], *, seconds: float) -> Answer:
    """What `call` answers; where it raises BrokerUnavailable it is repeated for so long, then that is raised."""
    give_up = trio.current_time() + seconds
    pause = FIRST_PAUSE
    while True:
        try:
            return await call()
        except BrokerUnavailable:
            if trio.current_time() + pause > give_up:
                raise
        await trio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
