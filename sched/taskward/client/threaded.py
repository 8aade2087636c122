"""BlockingClient: for programs without Trio that talk to Redis themselves; a thread runs AsyncClient for them."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NamedTuple, Unpack

import trio

from taskward.client.fields import Item, Options
from taskward.client.gateway import Answer
from taskward.client.local import AsyncClient, open_client
from taskward.client.view import TaskView
from taskward.config import Config
from taskward.task import State, Submitted


class _Thread(NamedTuple):
    client: AsyncClient
    token: trio.lowlevel.TrioToken
    stop: trio.Event


class BlockingClient:
    """AsyncClient's methods, for any number of threads at once: what they submit at the same moment goes out together.

    Every method raises what AsyncClient's does, and trio.RunFinishedError once the client is closed.
    """

    def __init__(self, client: AsyncClient, token: trio.lowlevel.TrioToken) -> None:
        self._client = client
        self._token = token

    def submit(self, type: str, payload: Any = None, **options: Unpack[Options]) -> Submitted:
        """Raises InvalidTask, TaskTooLarge, Conflict and QueueFull. Safe to repeat with the same `id`."""

        async def submit() -> Submitted:
            return await self._client.submit(type, payload, **options)

        return trio.from_thread.run(submit, trio_token=self._token)

    def submit_many(self, items: Sequence[Item]) -> list[Answer]:
        """One answer an item, an error in its place where it was not taken. Raises InvalidTask for what is no JSON."""
        return trio.from_thread.run(self._client.submit_many, items, trio_token=self._token)

    def get(self, id: str) -> TaskView:
        """Raises TaskNotFound."""
        return trio.from_thread.run(self._client.get, id, trio_token=self._token)

    def wait(self, id: str, *, seconds: float) -> TaskView:
        """The task as soon as it is terminal, or else as it is after `seconds`. Raises TaskNotFound."""

        async def wait() -> TaskView:
            return await self._client.wait(id, seconds=seconds)

        return trio.from_thread.run(wait, trio_token=self._token)

    def cancel(self, id: str) -> State:
        """-> the state it is in now: `cancelling` while its worker stops it. Raises TaskNotFound."""
        return trio.from_thread.run(self._client.cancel, id, trio_token=self._token)


@contextmanager
def open_blocking_client(redis_url: str, *, config: Config | None = None, queue: str = "") -> Iterator[BlockingClient]:
    """A client for as long as the block runs, as `open_client` in Trio. Raises ConfigError for a bad URL."""
    opened: Future[_Thread] = Future()
    thread = threading.Thread(target=_run, args=(opened, redis_url, config, queue), name="taskward-client", daemon=True)
    thread.start()
    running = opened.result()
    try:
        yield BlockingClient(running.client, running.token)
    finally:
        trio.from_thread.run_sync(running.stop.set, trio_token=running.token)
        thread.join()


def _run(opened: "Future[_Thread]", redis_url: str, config: Config | None, queue: str) -> None:
    async def serve() -> None:
        async with open_client(redis_url, config=config, queue=queue) as client:
            stop = trio.Event()
            opened.set_result(_Thread(client, trio.lowlevel.current_trio_token(), stop))
            await stop.wait()

    try:
        trio.run(serve)
    except Exception as exc:  # whatever it is: who opens the client is to hear it
        if opened.done():
            raise
        opened.set_exception(exc)
    finally:
        opened.cancel()  # nothing, where it is done: else nobody waits for ever
