"""A supervisor over stubs, to be run as a process: `supervised.py DATA_DIR PORT PORT`."""

import sys
from functools import partial
from pathlib import Path

import trio

from taskward.broker.embedded import embedded_server
from taskward.cli.dev import printer
from taskward.cli.supervisor import Part, supervise

STUB = str(Path(__file__).with_name("stub_part.py"))


def stub(name: str, port: int, manner: str = "") -> Part:
    return Part(name=name, command=(sys.executable, STUB, str(port), manner), env={}, host="127.0.0.1", port=port)


def main(data: str, worker_port: str, api_port: str) -> None:
    say = printer(sys.stdout)
    trio.run(
        partial(
            supervise,
            embedded_server(Path(data), log=partial(say, "store")),
            lambda url: [stub("worker", int(worker_port)), stub("api", int(api_port))],
            say=say,
            on_ready=lambda url: print(f"all ready over {url}", flush=True),
            stop_seconds=10.0,
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
