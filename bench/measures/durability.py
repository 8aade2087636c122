"""What is left of a rate where the server has every task on disk before it answers."""

import trio

from bench.measures.submission import async_client
from bench.measures.throughput import NOOP, SLEEP, drain
from bench.report import Reading
from bench.server import Server
from bench.setup import Setup


def fsync(setup: Setup) -> list[Reading]:
    """With appendfsync always, beside the same without persistence: no-ops, sleeps (concurrency 100), submissions."""
    with setup.server() as on:
        without = _rates(on, setup)
    with setup.server(fsync="always") as on:
        always = _rates(on, setup)
    readings = []
    for before, after in zip(without, always, strict=True):
        readings += [
            before._replace(what=f"{before.what}, without persistence"),
            after._replace(what=f"{after.what}, appendfsync always"),
            Reading(f"{after.what}: share kept", "%", 100 * after.value / before.value),
        ]
    return readings


def _rates(on: Server, setup: Setup) -> list[Reading]:
    readings = []
    for name, spec, full in (("no-op", NOOP, 100_000), ("10 ms sleeps", SLEEP, 30_000)):
        with setup.worker(on) as worker:
            rate = drain(on, [worker], setup.tasks(full), spec).rate
        readings.append(Reading(f"{name}, concurrency 100", "tasks/s", rate))
        on.clear()
    return readings + trio.run(async_client, on, setup)
