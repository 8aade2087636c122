"""The console in a real Chromium, on a real API, worker and store: what is shown is so, and what is pressed is done."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from taskward.api.auth import new_token
from tests.end_to_end.browser import MISSING, Browser, browser, installed
from tests.end_to_end.system import Api, Cluster, Process

pytestmark = pytest.mark.skipif(not installed(), reason=MISSING)
IMAGE = "<img src=x onerror=\"document.title='owned'\">"


class Site(NamedTuple):
    """A system, and a browser to look at it."""

    cluster: Cluster
    process: Process
    api: Api
    page: Browser

    def open(self, address: str) -> None:
        """A section, from anew."""
        self.page.open(f"{self.api.url}/{address}")


@pytest.fixture
def site(cluster: Callable[..., Cluster], tmp_path: Path) -> Iterator[Site]:
    system = cluster()
    process, api = system.api()
    with browser(tmp_path) as page:
        yield Site(system, process, api, page)
        assert page.complaints == []


def rows(page: Browser, caption: str) -> list[list[str]]:
    """The cells of a table, read as a person would."""
    found = f"[...document.querySelectorAll('table')].find((t) => t.caption.textContent === {json.dumps(caption)})"
    page.until(found)
    cells: list[list[str]] = page.run(
        f"[...{found}.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.innerText))"
    )
    return cells


def test_the_overview_shows_the_depths_as_they_are_pauses_and_purges(site: Site) -> None:
    site.api.submit_many([{"type": "echo", "priority": "low"}] * 1203 + [{"type": "echo", "delay_seconds": 900}] * 7)
    site.open("#/")
    shown = {name: numbers for name, *numbers in rows(site.page, "Priorities")}
    assert shown["low"][:5] == ["1,203", "0", "0", "0", "0"]
    assert shown["default"][:5] == ["0", "0", "7", "0", "0"]
    assert rows(site.page, "Workers") == [["No worker has reported."]]

    site.page.click("Pause", "[...document.querySelectorAll('tr')].find((r) => r.innerText.startsWith('low'))")
    site.page.until_it_says("low is paused.")
    assert {queue["priority"]: queue["paused"] for queue in site.api.get("/queues")["queues"]}["low"]
    # It looks again by itself: what changes elsewhere is seen.
    site.api.call("POST", "/queues/low/resume")
    site.page.until("!document.querySelector('.chip.paused')")

    site.page.click("Purge", "[...document.querySelectorAll('tr')].find((r) => r.innerText.startsWith('low'))")
    site.page.until_it_says("Cancel every task that waits in low?")
    site.page.click("Purge", "document.querySelector('#confirm[open]')")
    site.page.until_it_says("1,203 tasks of low are cancelled.")
    assert depths(site.api) == {"high": (0, 0), "default": (0, 0), "low": (0, 0)}


def test_a_tasks_page_shows_what_was_given_and_what_became_of_it(site: Site) -> None:
    site.cluster.worker()
    number = 2**53 + 1  # which a JavaScript number is not
    payload = {"to": "ada@example.org", "order": number}
    [echo, evil] = site.api.submit_many(
        [{"type": "echo", "payload": payload}, {"type": "fail", "payload": {"message": IMAGE}, "max_attempts": 1}]
    )
    site.api.until_done([echo, evil])
    site.open(f"#/task/{echo}")
    site.page.until_it_says("succeeded")
    assert (
        site.page.run("[...document.querySelectorAll('pre')].map((pre) => pre.innerText)")
        == ['{\n  "order": 9007199254740993,\n  "to": "ada@example.org"\n}'] * 2
    )
    assert [row[:2] for row in rows(site.page, "Attempts")] == [["1", "succeeded"]]

    site.open(f"#/task/{evil}")
    site.page.until_it_says(f"RuntimeError: {IMAGE}")
    assert site.page.run("document.querySelectorAll('main img').length") == 0
    assert site.page.run("document.title") == f"Task {evil} - Taskward"
    assert rows(site.page, "Attempts")[0][1] == "failed"


def test_tasks_can_be_chosen_and_paged(site: Site) -> None:
    ids = site.api.submit_many([{"type": "echo", "tags": ["nightly"]}] * 60 + [{"type": "noop"}])
    site.open("#/tasks")
    site.page.until("document.querySelectorAll('tbody tr').length === 50")
    site.page.run("document.querySelector('[name=tag]').value = 'nightly'")
    site.page.click("Show")
    site.page.until(
        "location.hash === '#/tasks?tag=nightly' && document.querySelector('.pager a')?.hash.includes('nightly')"
    )
    site.page.run("document.querySelector('.pager a').click()")
    site.page.until("document.querySelectorAll('tbody tr').length === 10")
    shown = site.page.run("[...document.querySelectorAll('tbody th')].map((cell) => cell.innerText)")
    assert shown == ids[50:60]


def test_a_task_that_waits_is_run_now_and_one_that_runs_is_cancelled(site: Site) -> None:
    site.cluster.worker()
    [id] = site.api.submit_many([{"type": "sleep", "payload": {"seconds": 600}, "delay_seconds": 900}])
    site.open(f"#/task/{id}")
    site.page.click("Run now")
    site.page.until("document.querySelector('h1 .chip.running')")
    site.page.click("Cancel")
    site.page.until_it_says(f"Cancel task {id}?")
    site.page.click("No", "document.querySelector('#confirm')")
    assert site.api.get(f"/tasks/{id}")["state"] == "running"
    site.page.click("Cancel", "document.querySelector('main')")
    site.page.click("Cancel", "document.querySelector('#confirm[open]')")
    site.page.until("document.querySelector('h1 .chip.cancelled')")
    assert site.page.run("document.querySelectorAll('main button').length") == 0


def test_dead_tasks_are_seen_discarded_and_redriven_after_a_count(site: Site) -> None:
    worker, _ = site.cluster.worker()
    dead = {"type": "fail", "payload": {"message": "no luck"}, "max_attempts": 1}
    ids = site.api.submit_many([{**dead, "priority": "high"}] * 3 + [{**dead, "priority": "low"}])
    site.api.until_done(ids)
    assert worker.stop() == 0  # so that what is redriven stays where it is put
    site.open("#/dlq?priority=high")
    site.page.until_it_says("RuntimeError: no luck")
    gone = site.page.run("document.querySelector('tbody th').innerText")
    site.page.click("Discard")
    site.page.click("Discard", "document.querySelector('#confirm[open]')")
    site.page.until_it_says(f"Task {gone} is discarded.")
    assert site.api.call("GET", f"/tasks/{gone}")[0] == 404

    site.page.click("Redrive dead tasks, type any, priority high…")
    site.page.until_it_says("Redrive 2 dead tasks, type any, priority high?")
    assert depths(site.api) == {"high": (0, 2), "default": (0, 0), "low": (0, 1)}, "it was only counted"
    site.page.click("Redrive 2")
    site.page.until_it_says("2 tasks are queued again.")
    site.page.until_it_says("There are none.")
    assert depths(site.api) == {"high": (2, 0), "default": (0, 0), "low": (0, 1)}


def depths(api: Api) -> dict[str, tuple[int, int]]:
    """Queued and dead, by priority."""
    return {queue["priority"]: (queue["queued"], queue["dead"]) for queue in api.get("/queues")["queues"]}


def test_a_handler_that_does_not_let_go_stands_out(cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    system = cluster(CANCEL_GRACE_MS="200", WORKER_CONCURRENCY="2")
    _, api = system.api()
    system.worker("tests.end_to_end.handlers:app")
    [id] = api.submit_many([{"type": "deaf", "timeout_seconds": 0.1}])
    with browser(tmp_path) as page:
        page.open(f"{api.url}/")
        page.until("document.querySelector('tr.bad details')")
        assert ["stuck" in row[5] for row in rows(page, "Running") if row[0] == id] == [True]
        assert page.run("document.querySelector('tr.bad details pre').textContent.includes('time.sleep')")
        assert page.complaints == []


def test_old_numbers_are_never_shown_as_new(site: Site) -> None:
    site.api.submit_many([{"type": "echo", "priority": "low"}] * 5)
    site.open("#/")
    assert {row[0]: row[1] for row in rows(site.page, "Priorities")}["low"] == "5"
    site.process.stop()
    site.page.until("document.querySelector('#stale').innerText.startsWith('Stale: The API cannot be reached.')")
    site.page.until_it_says("What you see is from")
    assert site.page.run("document.body.classList.contains('stale')")
    site.page.run("location.hash = '#/dlq'")  # of which there are no old numbers either
    site.page.until_it_says("Nothing is known of this yet.")


def test_a_refusal_is_shown_in_the_apis_words(site: Site) -> None:
    site.open("#/tasks?state=asleep")
    problem: Any = site.api.call("GET", "/tasks?state=asleep")[1]
    site.page.until_it_says(f"{problem['title']}: {problem['detail']} (at {problem['pointer']})")
    site.open("#/task/unknown")
    site.page.until_it_says("There is no such task")


def test_a_token_is_asked_for_and_kept_for_the_tab(cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    token, digest = new_token()
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps({"tokens": [{"name": "reader", "sha256": digest, "scopes": ["read"]}]}))
    _, api = cluster(API_TOKENS_FILE=str(tokens)).api()
    with browser(tmp_path) as page:
        page.open(f"{api.url}/")
        page.until("document.querySelector('#token').open")
        page.until_it_says("a bearer token is needed")
        page.run(f"document.querySelector('#token input').value = {json.dumps(token)}")
        page.click("Use it")
        assert len(rows(page, "Priorities")) == 3
        page.until("document.querySelector('#stale').hidden")
        page.open(f"{api.url}/#/dlq")  # the tab still has it
        page.until_it_says("There are none.")
        page.open(f"{api.url}/")
        page.click("Pause")
        page.until_it_says("the token reader lacks the scope operate")
        assert page.complaints == []
