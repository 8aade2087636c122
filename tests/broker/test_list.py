"""list.lua and reading.page: every task once, in the order of its place, however the store moves meanwhile."""

import base64

import pytest

from taskward.broker import reading
from taskward.broker.reading import Filter
from taskward.errors import InvalidTask
from taskward.policy.retry import Bury, Complete, RetryIn
from taskward.task import State
from tests.support.rig import Rig

EVERYTHING = Filter()


async def _pages(rig: Rig, wanted: Filter = EVERYTHING, *, size: int = 2) -> list[list[str]]:
    pages: list[list[str]] = []
    token = None
    while not pages or token is not None:
        page = await reading.page(rig.broker, wanted, size=size, token=token)
        pages.append([task.id for task in page.tasks])
        token = page.next_token
    return pages


async def _one_of_each(rig: Rig) -> None:
    succeeded, dead, retrying, _, _ = await rig.running("succeeded", "dead", "retrying", "running", "cancelling")
    await rig.settle(succeeded, Complete(b"1"))
    await rig.settle(dead, Bury("exception"))
    await rig.settle(retrying, RetryIn(5.0, "exception"))
    await rig.broker.cancel("cancelling", cause="user")
    await rig.submit("expired", expires_ms=rig.clock.ms)
    await rig.claim()
    await rig.submit("cancelled")
    await rig.broker.cancel("cancelled", cause="user")
    await rig.submit("queued", priority="low")
    await rig.submit("scheduled", delay_ms=99_000)


async def test_everything_once(rig: Rig) -> None:
    await _one_of_each(rig)
    ids = [id for page in await _pages(rig) for id in page]
    assert sorted(ids) == sorted(State)


@pytest.mark.parametrize("state", list(State))
async def test_one_state(rig: Rig, state: State) -> None:
    await _one_of_each(rig)
    assert [id for page in await _pages(rig, Filter(state=state)) for id in page] == [state]


async def test_an_empty_store(rig: Rig) -> None:
    assert await _pages(rig) == [[]]


async def test_the_order_of_the_place(rig: Rig) -> None:
    await rig.submit("c", "a", "b")
    await rig.submit("z", priority="low")
    assert await _pages(rig, Filter(state=State.QUEUED)) == [["c", "a"], ["b", "z"], []]


async def test_by_priority_type_and_tag(rig: Rig) -> None:
    await rig.submit("a", type="x", tags=("red", "blue"))
    await rig.submit("b", type="y", tags=("red",), priority="low")
    await rig.submit("c", type="x", priority="low")
    assert await _pages(rig, Filter(priority="low"), size=9) == [["b", "c"]]
    assert await _pages(rig, Filter(type="x"), size=9) == [["a", "c"]]
    assert await _pages(rig, Filter(tag="red"), size=9) == [["a", "b"]]
    assert await _pages(rig, Filter(type="x", tag="red", priority="low"), size=9) == [[]]


async def test_an_ended_task_has_its_priority_too(rig: Rig) -> None:
    (lease,) = await rig.running("a", priority="low")
    assert await _pages(rig, Filter(state=State.RUNNING, priority="high")) == [[]]
    await rig.settle(lease, Complete(b"1"))
    assert await _pages(rig, Filter(priority="low")) == [["a"]]


async def test_many_with_equal_scores(rig: Rig) -> None:
    ids = [f"{n:03}" for n in range(450)]
    await rig.submit(*ids, delay_ms=1000)
    pages = await _pages(rig, Filter(state=State.SCHEDULED), size=100)
    assert [id for page in pages for id in page] == ids


async def test_none_is_missed_where_the_last_one_seen_has_gone(rig: Rig) -> None:
    await rig.submit(*"abcdef")
    page = await reading.page(rig.broker, Filter(state=State.QUEUED), size=3, token=None)
    await rig.broker.cancel("c", cause="user")
    await rig.broker.cancel("a", cause="user")
    rest = await reading.page(rig.broker, Filter(state=State.QUEUED), size=9, token=page.next_token)
    assert [task.id for task in rest.tasks] == ["d", "e", "f"]


async def test_none_is_missed_among_equals_where_the_last_one_seen_has_gone(rig: Rig) -> None:
    await rig.submit(*"abcd", delay_ms=1000)
    page = await reading.page(rig.broker, Filter(state=State.SCHEDULED), size=2, token=None)
    await rig.broker.cancel("b", cause="user")
    rest = await reading.page(rig.broker, Filter(state=State.SCHEDULED), size=9, token=page.next_token)
    assert {"c", "d"} <= {task.id for task in rest.tasks}


async def test_one_call_is_bounded(rig: Rig) -> None:
    await rig.submit(*"abcd", delay_ms=1000)
    reply = await rig.broker.call("list", ["scheduled", 1, 2, "a", rig.clock.ms + 1000])
    assert reply[::2] == [b"b", b"c"]


async def test_none_is_missed_where_the_last_one_seen_has_moved(rig: Rig) -> None:
    """Running tasks stand in the order of their leases' ends, and each renewal moves one to the back."""
    await rig.submit(*"abcd")
    leases = []
    for _ in range(4):
        rig.clock.move(ms=1)
        leases += await rig.claim()
    page = await reading.page(rig.broker, Filter(state=State.RUNNING), size=2, token=None)
    assert [task.id for task in page.tasks] == ["a", "b"]
    rig.clock.move(ms=1000)
    await rig.broker.extend([leases[1]])
    rest = await reading.page(rig.broker, Filter(state=State.RUNNING), size=9, token=page.next_token)
    assert [task.id for task in rest.tasks] == ["c", "d", "b"]


async def _ended(rig: Rig, *ids: str, ms_apart: int = 1) -> None:
    """Dead ones, and with an `x` before their names those that succeeded."""
    for id in ids:
        rig.clock.move(ms=ms_apart)
        dead, done = await rig.running(id, "x" + id)
        await rig.settle(dead, Bury("exception"))
        await rig.settle(done, Complete(b"1"))


async def test_what_ended_last_is_first(rig: Rig) -> None:
    await _ended(rig, "b", "a", "c")
    assert await _pages(rig, Filter(state=State.DEAD)) == [["c", "a"], ["b"]]
    assert await _pages(rig, Filter(state=State.SUCCEEDED)) == [["xc", "xa"], ["xb"]]
    page = await reading.page(rig.broker, Filter(state=State.DEAD), size=2, token=None, oldest_first=True)
    rest = await reading.page(rig.broker, Filter(state=State.DEAD), size=2, token=page.next_token, oldest_first=True)
    assert [task.id for task in page.tasks + rest.tasks] == ["b", "a", "c"]


@pytest.mark.parametrize("state", [State.DEAD, State.SUCCEEDED])
async def test_many_that_ended_at_once_come_once(rig: Rig, state: State) -> None:
    ids = [f"{n:03}" for n in range(25)]
    await _ended(rig, *ids, ms_apart=0)
    found = [id.lstrip("x") for page in await _pages(rig, Filter(state=state), size=10) for id in page]
    assert found == ids[::-1]


async def test_newest_first_none_is_missed_whatever_ends_or_goes_meanwhile(rig: Rig) -> None:
    await _ended(rig, *"abcdef")
    dead = Filter(state=State.DEAD)
    page = await reading.page(rig.broker, dead, size=3, token=None)
    assert [task.id for task in page.tasks] == ["f", "e", "d"]
    await _ended(rig, "g")
    await rig.broker.discard("f")
    rest = await reading.page(rig.broker, dead, size=1, token=page.next_token)
    assert [task.id for task in rest.tasks] == ["c"]
    await rig.broker.discard("c")
    rest = await reading.page(rig.broker, dead, size=9, token=rest.next_token)
    assert [task.id for task in rest.tasks] == ["b", "a"]


async def test_newest_first_none_is_missed_where_the_last_one_seen_died_again(rig: Rig) -> None:
    await _ended(rig, *"abcd")
    dead = Filter(state=State.DEAD)
    page = await reading.page(rig.broker, dead, size=2, token=None)
    await rig.broker.redrive(["c"])
    rig.clock.move(ms=1)
    [lease] = await rig.claim()
    await rig.settle(lease, Bury("exception"))
    rest = await reading.page(rig.broker, dead, size=9, token=page.next_token)
    assert [task.id for task in rest.tasks] == ["b", "a"]


async def test_newest_first_none_is_missed_among_equals_where_the_last_one_seen_has_gone(rig: Rig) -> None:
    await _ended(rig, *"abcd", ms_apart=0)
    dead = Filter(state=State.DEAD)
    page = await reading.page(rig.broker, dead, size=2, token=None)
    await rig.broker.discard(page.tasks[-1].id)
    rest = await reading.page(rig.broker, dead, size=9, token=page.next_token)
    assert {"a", "b"} <= {task.id for task in rest.tasks}


async def test_a_filter_that_matches_little_ends_a_page_early(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_READ_PER_PAGE", 400)
    await rig.submit(*(f"{n:03}" for n in range(450)))
    await rig.submit("needle", type="rare")
    pages = await _pages(rig, Filter(type="rare"))
    assert [id for page in pages for id in page] == ["needle"]
    assert len(pages) == 2


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"nonsense", b"{}", b'[0,"a"', b'[99,"",""]', b'[-1,"",""]', b"\xff"),
        *(
            f'[0,"a","{score}"]'.encode()
            for score in ("", "x", "nan", "inf", "1e999", "1_0", " 1", "0x1", "(1", "\u0661")
        ),
    ],
)
async def test_a_token_that_is_none(rig: Rig, content: bytes) -> None:
    await rig.submit("a")
    token = base64.urlsafe_b64encode(content).decode() or "?"
    with pytest.raises(InvalidTask) as caught:
        await reading.page(rig.broker, Filter(), size=2, token=token)
    assert caught.value.pointer == "/page_token"


async def test_a_token_that_is_not_even_base64(rig: Rig) -> None:
    for token in ("é", "a", "a===", "🙂"):
        with pytest.raises(InvalidTask):
            await reading.page(rig.broker, Filter(), size=2, token=token)


async def test_one_broken_task_does_not_hide_the_others(rig: Rig) -> None:
    await rig.submit(*"abc")
    rig.store.client.hset(rig.store.key("spec"), "b", "garbage")
    page = await reading.page(rig.broker, Filter(), size=9, token=None)
    assert {"a", "c"} <= {task.id for task in page.tasks}
