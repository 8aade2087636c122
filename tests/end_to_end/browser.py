"""A real Chromium with one page, driven by the DevTools protocol over a pipe: no port, no package."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO, Any

CHROMIUM = (
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
)
MISSING = "needs the chromium binary on PATH"
WAIT_SECONDS = 60
# Chromium reads orders from 3 and answers on 4; whatever else it has to say is for the log.
SHELL = 'exec "$@" 3<&0 4>&1 0</dev/null 1>&2'


def installed() -> bool:
    """Whether there is a chromium to run."""
    return shutil.which("chromium") is not None


class Browser:
    """Its one page. `complaints` are errors of scripts and breaches of the page's policy so far."""

    def __init__(self, to: IO[bytes], answers: IO[bytes]) -> None:
        self._to, self._answers = to, answers
        self._numbers = count(1)
        self._events: list[dict[str, Any]] = []
        self._session: dict[str, str] = {}
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def call(self, method: str, **params: Any) -> Any:
        """One order of the protocol. -> its result"""
        number = next(self._numbers)
        self._to.write(json.dumps({"id": number, "method": method, "params": params, **self._session}).encode() + b"\0")
        self._to.flush()
        while (message := self._receive()).get("id") != number:
            self._events.append(message)
        assert "error" not in message, message
        return message["result"]

    def open(self, url: str) -> None:
        """Go there, from nowhere: else another #part of the same page would load nothing. Returns when it is loaded."""
        for place in ("about:blank", url):
            self._events.clear()
            loader = self.call("Page.navigate", url=place)["loaderId"]
            while not any(_is_load_of(loader, event) for event in self._events):
                self._events.append(self._receive())

    def run(self, script: str) -> Any:
        """The value of an expression, once it is there where it is a promise."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until an expression is true of the page; fails with what the page says instead."""
        self.run(
            f"""new Promise((done, failed) => {{
              const look = () => {{ if ({condition}) {{ watch.disconnect(); done(); }} }};
              const watch = new MutationObserver(look);
              watch.observe(document, {{ subtree: true, childList: true, attributes: true, characterData: true }});
              setTimeout(() => failed(Error({json.dumps(condition)} + document.body.innerText)), {WAIT_SECONDS * 1000});
              look();
            }})"""
        )

    def until_it_says(self, text: str) -> None:
        """Wait until a text can be read on the page."""
        self.until(f"document.body.innerText.includes({json.dumps(text)})")

    def click(self, name: str, within: str = "document") -> None:
        """The first button of that name that can be seen, in an element; waits until there is one."""
        found = f"[...{within}.querySelectorAll('button')].find((b) => b.innerText === {json.dumps(name)})"
        self.until(found)
        self.run(f"{found}.click()")

    def _receive(self) -> dict[str, Any]:
        data = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "chromium has gone"
            data += byte
        message: dict[str, Any] = json.loads(data)
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(message["params"]["exceptionDetails"]))
        if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["source"] == "security":
            self.complaints.append(message["params"]["entry"]["text"])
        return message


def _is_load_of(loader: str, event: dict[str, Any]) -> bool:
    params = event["params"]
    return event["method"] == "Page.lifecycleEvent" and (params["loaderId"], params["name"]) == (loader, "load")


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A fresh one, with a profile of its own."""
    command = ["sh", "-c", SHELL, "sh", *CHROMIUM, f"--user-data-dir={folder / 'profile'}"]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            yield Browser(process.stdin, process.stdout)
        finally:
            process.kill()
            process.communicate()
