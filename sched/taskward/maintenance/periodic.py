"""The one periodic loop, and the ticks it runs: each looks at the store and tells what it found."""

import random
from collections.abc import Awaitable, Callable
from typing import NoReturn

import trio

from taskward.broker.broker import MOST_PER_CALL, Broker
from taskward.broker.outage import Outage
from taskward.errors import BrokerUnavailable
from taskward.events import Observer, SampleFailed

Tick = Callable[[], Awaitable[None]]


async def every(seconds: float, name: str, tick: Tick, *, observe: Observer) -> NoReturn:
    """Run `tick` about every `seconds`, each pause a little different so that processes do not march in step."""
    outage = Outage(name, observe)
    while True:
        try:
            await tick()
        except BrokerUnavailable as exc:
            await outage.sit_out(exc)
        else:
            outage.over()
        await trio.sleep(seconds * (0.9 + 0.2 * random.random()))


def reaper(broker: Broker, observe: Observer) -> Tick:
    """Takes back expired leases: all that there are, a bounded number a call."""

    async def tick() -> None:
        while True:
            reaped = await broker.reap()
            for event in reaped:
                observe(event)
            if len(reaped) < MOST_PER_CALL:
                return

    return tick


def janitor(broker: Broker) -> Tick:
    """Removes finished tasks, idempotency keys and silent workers whose retention has passed."""

    async def tick() -> None:
        while await broker.forget() >= MOST_PER_CALL:
            pass

    return tick


def sampler(broker: Broker, observe: Observer) -> Tick:
    """Reads the depths that the gauges show."""

    async def tick() -> None:
        try:
            observe(await broker.sample())
        except BrokerUnavailable:
            observe(SampleFailed())
            raise

    return tick
