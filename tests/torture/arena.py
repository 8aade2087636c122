"""The arena: real processes over a real server, what is done to them, and the clients that go on asking."""

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import httpx
import msgspec
import trio

from taskward import child
from taskward.broker import reading
from taskward.broker.broker import Broker, Terms
from taskward.broker.connection import open_connection
from taskward.client import blocking
from taskward.client.fields import Item
from taskward.client.view import view
from taskward.config import Config
from taskward.errors import BrokerUnavailable
from taskward.events import ignore
from taskward.maintenance.auditor import audit
from taskward.task import State, Submitted
from tests.end_to_end.system import environment, taskward
from tests.faults.proxy import Proxy
from tests.faults.server import Server
from tests.support.ports import free_ports
from tests.torture.handlers import LEDGER
from tests.torture.plan import COUNTS, Fault

QUICK = {
    "LEASE_MS": "1500",
    "REAPER_INTERVAL_MS": "100",
    "METRICS_SAMPLE_MS": "500",
    "WORKER_CONCURRENCY": "10",
    "SHUTDOWN_GRACE_MS": "1000",
    "CANCEL_GRACE_MS": "1000",
    "RETRY_BASE_MS": "50",
    "MAX_REAPS": "1000",  # a task may lose many leases here without being a poison pill
    "LOG_LEVEL": "debug",
    "LOG_FORMAT": "json",
}
APIS, WORKERS, CLIENT = 0, 1, 2
DELAY_SECONDS = 0.05
REPEAT_SECONDS = 0.1
BATCH = 20
# So that a batch is several parts, and faults meet it when some are stored and some are not.
PART = 3
ANSWER_SECONDS = 4.0


class Part:
    """A process that is started again whenever it ends. `deaths` has when, by pid; `exits` its exit codes."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path, deaths: dict[int, float]) -> None:
        self.log = log
        self.exits: list[int] = []
        self._command = child.guarded(command)
        self._env = env
        self._deaths = deaths
        self._process: trio.Process | None = None
        self._wanted = True

    async def run(self) -> None:
        """Until it has been asked to end for good, and has."""
        with self.log.open("ab") as log:
            while self._wanted:
                process = self._process = await trio.lowlevel.open_process(
                    self._command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=self._env, process_group=0
                )
                try:
                    self.exits.append(await process.wait())
                finally:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                self._deaths[process.pid] = time.monotonic()

    def signal(self, number: signal.Signals) -> None:
        """To the process that runs now."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def end(self) -> None:
        """Ask it to stop, and start no other."""
        self._wanted = False
        self.signal(signal.SIGTERM)


class Arena:
    """`acknowledged` grows by the id of each task that was answered 2xx; `deaths` as in Part."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = folder / "ledger"
        self.server = Server(folder / "data")
        self.lines = [Proxy(self.server.port) for _ in range(COUNTS["line"])]
        self.acknowledged: list[str] = []
        self.deaths: dict[int, float] = {}
        self.done: Counter[str] = Counter()
        self.parts: dict[tuple[str, int], Part] = {}
        self._ports = free_ports(COUNTS["api"])
        self._redis = trio.Lock()

    async def start(self, lines: trio.Nursery, parts: trio.Nursery) -> None:
        """The server, the lines to it, and the processes. `parts` is done when the last has ended for good."""
        await self.server.start()
        for line in self.lines:
            await lines.start(line.run)
        for n in range(COUNTS["api"]):
            self._add("api", n, APIS, API_ADDR=f"127.0.0.1:{self._ports[n]}")
        for n in range(COUNTS["worker"]):
            self._add("worker", n, WORKERS)
        for part in self.parts.values():
            parts.start_soon(part.run)

    def _add(self, name: str, n: int, line: int, **settings: str) -> None:
        words = ("worker", "--app", "tests.torture.handlers:app") if name == "worker" else ("api",)
        env = environment(
            REDIS_URL=self.lines[line].url,
            METRICS_ADDR=f"127.0.0.1:{free_ports(1)[0]}",
            **{LEDGER: str(self.ledger)},
            **QUICK,
            **settings,
        )
        self.parts[name, n] = Part(taskward(*words), env, self.folder / f"{name}-{n}.log", self.deaths)

    # ---- what is done to it

    async def suffer(self, plan: list[Fault]) -> None:
        """All of a plan, in its time."""
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for fault in plan:
                await trio.sleep_until(began + fault.at)
                nursery.start_soon(self._do, fault)

    async def _do(self, fault: Fault) -> None:
        self.done[f"{fault.target} {fault.what}"] += 1
        match fault.target:
            case "redis":
                async with self._redis:
                    await self._to_redis(fault)
            case "line":
                await self._to_line(self.lines[fault.number], fault)
            case _:
                await self._to_part(self.parts[fault.target, fault.number], fault)

    async def _to_part(self, part: Part, fault: Fault) -> None:
        match fault.what:
            case "kill":
                part.signal(signal.SIGKILL)
            case "stop":
                part.signal(signal.SIGTERM)
            case "freeze":
                part.signal(signal.SIGSTOP)
                await trio.sleep(fault.seconds)
                part.signal(signal.SIGCONT)

    async def _to_redis(self, fault: Fault) -> None:
        match fault.what:
            case "flush":
                await trio.to_thread.run_sync(self.server.admin.script_flush)
            case "freeze":
                self.server.freeze()
                await trio.sleep(fault.seconds)
                self.server.thaw()
            case _:
                await (self.server.kill() if fault.what == "kill" else self.server.stop())
                await trio.sleep(fault.seconds)
                await self.server.start()

    async def _to_line(self, line: Proxy, fault: Fault) -> None:
        match fault.what:
            case "cut":
                line.cut()
            case "forget":
                line.forget_all()
            case "lose":
                line.lose_reply(b"EVALSHA")
            case "refuse":
                await line.refuse()
                await trio.sleep(fault.seconds)
                line.welcome()
            case "hold":
                line.hold()
                await trio.sleep(fault.seconds)
                line.release()
            case "delay":
                line.delay = DELAY_SECONDS
                await trio.sleep(fault.seconds)
                line.delay = 0.0

    # ---- the clients

    async def ask(self, client: int, *, seed: int, until: trio.Event, pause: float) -> None:
        """Submit tasks of all kinds, each until it is acknowledged."""
        dice = random.Random(f"{seed}-{client}")
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS) as http:
            n = 0
            while not until.is_set():
                n += 1
                if dice.random() < 0.1:
                    await self._submit_batch(http, dice, f"{client}-{n}")
                else:
                    await self._submit_one(http, dice, f"{client}-{n}")
                await trio.sleep(dice.uniform(0, 2 * pause))

    async def _submit_one(self, http: httpx.AsyncClient, dice: random.Random, key: str) -> None:
        answer = await self._insist(http, dice, "/tasks", _task(dice, key))
        id = str(answer["id"])
        self.acknowledged.append(id)
        if dice.random() < 0.05:
            await trio.sleep(dice.uniform(0, 0.5))
            await self._insist(http, dice, f"/tasks/{id}/cancel", None)

    async def _submit_batch(self, http: httpx.AsyncClient, dice: random.Random, key: str) -> None:
        answer = await self._insist(http, dice, "/tasks/batch", [_task(dice, f"{key}-{n}") for n in range(5)])
        self.acknowledged += [str(item["id"]) for item in answer["results"]]

    async def _insist(self, http: httpx.AsyncClient, dice: random.Random, path: str, body: Any) -> Any:
        """Until it is answered 2xx: whatever else comes, the same again, from any API."""
        while True:
            port = dice.choice(self._ports)
            try:
                answer = await http.post(f"http://127.0.0.1:{port}{path}", json=body)
            except httpx.HTTPError:
                await trio.sleep(REPEAT_SECONDS)
                continue
            assert answer.status_code in (200, 202, 503), answer.text
            if answer.status_code != 503 and _all_taken(answer.json()):
                return answer.json()
            await trio.sleep(REPEAT_SECONDS)

    async def ask_directly(self, *, seed: int, until: trio.Event, pause: float) -> None:
        """Submit batches by a thread's client, which talks to Redis itself."""
        enough = threading.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_pass_on, until, enough)
            await trio.to_thread.run_sync(
                self._submit_directly, random.Random(f"{seed}-directly"), enough, pause, abandon_on_cancel=True
            )

    def _submit_directly(self, dice: random.Random, enough: threading.Event, pause: float) -> None:
        n = 0
        with patch.object(blocking, "PART", PART), blocking.open_blocking_client(self.lines[CLIENT].url) as client:
            while not enough.wait(dice.uniform(0, 2 * pause)):
                n += 1
                items = [cast(Item, _task(dice, f"directly-{n}-{k}")) for k in range(BATCH)]
                while items:
                    items = self._submit_once(client, items)

    def _submit_once(self, client: blocking.BlockingClient, items: list[Item]) -> list[Item]:
        """-> those that Redis did not answer for."""
        try:
            answers = client.submit_many(items)
        except BrokerUnavailable:
            return items
        self.acknowledged += [answer.id for answer in answers if isinstance(answer, Submitted)]
        left = [item for item, answer in zip(items, answers, strict=True) if isinstance(answer, BrokerUnavailable)]
        assert len(left) + sum(isinstance(answer, Submitted) for answer in answers) == len(items), answers
        return left

    # ---- the end

    async def settle_down(self) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """Wait until nothing is left to do, then end every process. -> every task, and what an audit finds wrong."""
        config = Config()
        async with open_connection(self.server.url, name="torture") as connection:
            broker = Broker(
                connection,
                queue=config.queue,
                priorities=config.priority_names,
                terms=Terms.of(config),
                observe=ignore,
            )
            while await self._busy(broker):
                await trio.sleep(0.1)
            for part in self.parts.values():
                part.end()
            findings = (await audit(broker, repair=False))[1]
            return await _all_tasks(broker), [str(finding) for finding in findings]

    async def _busy(self, broker: Broker) -> bool:
        sampled = await broker.sample()
        waiting = await _all_tasks(broker, states=("retrying", "scheduled"))
        await broker.run_now(list(waiting))  # what was reaped often waits long
        return sampled.running > 0 or any(p.queued + p.scheduled + p.retrying for p in sampled.priorities)


async def _pass_on(event: trio.Event, to_thread: threading.Event) -> None:
    await event.wait()
    to_thread.set()


def _task(dice: random.Random, key: str) -> dict[str, Any]:
    kind = dice.choices(("work", "toil", "stumble"), (8, 2, 1))[0]
    seconds = dice.uniform(1.0, 2.5) if dice.random() < 0.05 else dice.uniform(0, 0.3)
    task: dict[str, Any] = {"type": kind, "payload": {"key": key, "seconds": round(seconds, 3)}}
    task["priority"] = dice.choice(("high", "default", "low"))
    task["id" if dice.random() < 0.5 else "idempotency_key"] = key
    if dice.random() < 0.1:
        task["delay_seconds"] = round(dice.uniform(0.1, 1.5), 2)
    return task


def _all_taken(answer: Mapping[str, Any]) -> bool:
    return all(item["status"] in (200, 202) for item in answer.get("results", ()))


async def _all_tasks(broker: Broker, states: tuple[str, ...] = ("",)) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for state in states:
        wanted = reading.Filter(state=State(state)) if state else reading.Filter()
        token: str | None = None
        while True:
            page = await reading.page(broker, wanted, size=200, token=token)
            found |= {task.id: msgspec.to_builtins(view(task, 0)) for task in page.tasks}
            if (token := page.next_token) is None:
                break
    return found
