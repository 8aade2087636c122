"""Malformed, slow and odd HTTP on both ports: refused or waited for, never a 5xx, and nobody else notices."""

import re

import pytest
import trio

from tests.fuzz.conftest import Ports, open_files
from tests.fuzz.corpus import ODD, REFUSED, RIGHT, SLOW, SMUGGLED, TAKEN, Attack

PORTS = pytest.mark.parametrize("name", ["api", "scrape"])
ANSWER_SECONDS = 3.0
# How long to see whether there is more than there should be.
GLANCE_SECONDS = 0.05
# What the API's timeouts for an idle connection and for a head add up to, and some.
GIVEN_UP_SECONDS = 12.0
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


def attacks(*groups: tuple[Attack, ...]) -> pytest.MarkDecorator:
    """One test each."""
    every = [attack for group in groups for attack in group]
    return pytest.mark.parametrize("attack", every, ids=lambda attack: attack.name)


@PORTS
@attacks(REFUSED)
async def test_what_is_wrong_is_refused(ports: Ports, name: str, attack: Attack) -> None:
    async with attacked(ports, name, attack) as stream:
        answers, over = await heard(stream, more_than=0, seconds=GLANCE_SECONDS if attack.waits else ANSWER_SECONDS)
    assert answers or over or attack.waits
    assert not any(200 <= status < 300 for status in answers), answers
    assert all(400 <= status < 500 or status in (501, 505) for status in answers), answers


@PORTS
@attacks(RIGHT)
async def test_what_is_right_is_answered(ports: Ports, name: str, attack: Attack) -> None:
    async with attacked(ports, name, attack) as stream:
        assert await statuses(stream, more_than=attack.answers - 1) == [200] * attack.answers


@attacks(TAKEN)
async def test_bodies_come_in_every_form(ports: Ports, attack: Attack) -> None:
    async with attacked(ports, "api", attack) as stream:
        answers = [status for status in await statuses(stream, more_than=attack.answers - 1) if status != 100]
        assert answers == [202] * attack.answers


@PORTS
@attacks(ODD)
async def test_what_is_odd_hurts_nobody(ports: Ports, name: str, attack: Attack) -> None:
    async with attacked(ports, name, attack) as stream:
        assert all(status < 500 or status in (501, 505) for status in await statuses(stream, more_than=0))


@PORTS
async def test_slow_clients_are_given_up_and_keep_nobody_waiting(ports: Ports, name: str) -> None:
    """Ten of each kind that the API gives up soon; bodies have half a minute (tests/torture)."""
    slow = [attack for attack in SLOW if "body" not in attack.name and "chunk" not in attack.name]
    if name == "scrape":
        slow = [attack for attack in slow if attack.parts]  # a scraper may be idle for two minutes
    before = open_files()
    streams = [await open_to(ports, name, attack) for attack in slow for _ in range(10)]
    await others_are_served(ports, name)
    with trio.fail_after(GIVEN_UP_SECONDS):
        for stream in streams:
            await until_closed(stream)
            await trio.aclose_forcefully(stream)
    await descriptors_are_back(before)


@PORTS
async def test_no_attack_leaves_a_descriptor_behind(ports: Ports, name: str) -> None:
    await others_are_served(ports, name)
    before = open_files()
    for attack in REFUSED + SLOW + ODD:
        stream = await open_to(ports, name, attack)
        await trio.aclose_forcefully(stream)
    await descriptors_are_back(before)
    await others_are_served(ports, name)


def attacked(ports: Ports, name: str, attack: Attack) -> "_Attacked":
    """The connection, once others have been served beside it."""
    return _Attacked(ports, name, attack)


class _Attacked:
    def __init__(self, ports: Ports, name: str, attack: Attack) -> None:
        self._ports = ports
        self._name = name
        self._attack = attack

    async def __aenter__(self) -> trio.SocketStream:
        self._stream = await open_to(self._ports, self._name, self._attack)
        await others_are_served(self._ports, self._name)
        return self._stream

    async def __aexit__(self, *_raised: object) -> None:
        await trio.aclose_forcefully(self._stream)


async def open_to(ports: Ports, name: str, attack: Attack) -> trio.SocketStream:
    """A connection on which all of it has been sent, or as much as the server would take."""
    stream = await trio.open_tcp_stream("127.0.0.1", getattr(ports, name))
    try:
        for part in attack.parts:
            await stream.send_all(part)
            await trio.lowlevel.checkpoint()
    except trio.BrokenResourceError:
        pass
    return stream


async def others_are_served(ports: Ports, name: str) -> None:
    """At once."""
    async with await trio.open_tcp_stream("127.0.0.1", getattr(ports, name)) as stream:
        with trio.fail_after(ANSWER_SECONDS):
            await stream.send_all(SMUGGLED)
            assert await statuses(stream, more_than=0) == [200]


async def statuses(stream: trio.SocketStream, *, more_than: int) -> list[int]:
    """Of all answers."""
    return (await heard(stream, more_than=more_than))[0]


async def heard(
    stream: trio.SocketStream, *, more_than: int, seconds: float = ANSWER_SECONDS
) -> tuple[list[int], bool]:
    """-> the statuses of all answers until there are more than so many and no other comes, and whether it is closed."""
    came, over = b"", True
    try:
        with trio.move_on_after(seconds) as scope:
            while data := await stream.receive_some():
                came += data
                if len(STATUS.findall(came)) > more_than:
                    scope.deadline = trio.current_time() + GLANCE_SECONDS
        over = not scope.cancelled_caught
    except trio.BrokenResourceError:
        pass
    return [int(status) for status in STATUS.findall(came)], over


async def until_closed(stream: trio.SocketStream) -> None:
    """By the other side, however."""
    try:
        while await stream.receive_some():
            pass
    except trio.BrokenResourceError:
        pass


async def descriptors_are_back(before: int) -> None:
    """The service holds no more than it did; a few connections to Redis may be new."""
    with trio.fail_after(GIVEN_UP_SECONDS):
        while open_files() > before + 4:
            await trio.sleep(0.05)
