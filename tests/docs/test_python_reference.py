"""docs/python.md names what there is, all of it, and nothing else."""

import inspect
import re
from datetime import UTC, datetime
from pathlib import Path

import taskward
from taskward import App, Context, Retry, RetryPolicy
from taskward.app import Kind
from taskward.client import AsyncClient, BlockingClient, Client, open_blocking_client, open_client
from taskward.client.fields import Options
from taskward.task import Lease, Spec

TEXT = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
LEASE = Lease(id="t", token=1, attempt=1, queued_us=0, started_us=0, held_until=0.0, spec=Spec(type="x"))


def test_the_names_of_the_package_are_there_and_imported() -> None:
    [imported] = re.findall(r"`from taskward import ([\w, ]+)`", TEXT)
    assert set(imported.split(", ")) == set(taskward.__all__) - {"__version__"}


def test_every_name_of_the_context_is_there_and_no_other() -> None:
    ctx = Context(LEASE, deadline=datetime.now(UTC))
    names = {name for name in dir(ctx) if not name.startswith("_")} - {"reported"}
    assert set(re.findall(r"`ctx\.(\w+)", TEXT)) == names
    [progress] = re.findall(r"`ctx\.progress\((.*?)\)`", TEXT)
    assert progress.split(", ") == list(inspect.signature(ctx.progress).parameters)


def test_every_option_of_a_handler_is_there() -> None:
    options = set(inspect.signature(App.task).parameters) - {"self", "type"}
    table = TEXT.split("| option")[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)(?:=True)?`", table)) - {"def", "RetryPolicy", "ctx"}
    assert named == options
    assert len(Kind) == 4


def test_the_calls_have_the_parameters_and_defaults_that_are_shown() -> None:
    shown = dict(re.findall(r"`([\w.]+)\(([^`]*)\)`", TEXT))
    for call, function in (("app.schedule", App.schedule), ("RetryPolicy", RetryPolicy)):
        parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
        for p, argument in zip(parameters, split(shown[call]), strict=True):
            name, _, default = argument.partition("=")
            assert name == p.name
            assert not default or eval(default) == p.default
    assert list(inspect.signature(Retry).parameters) == ["after"]


def split(arguments: str) -> list[str]:
    return re.findall(r"\w+(?:=(?:\(\)|[^,]+))?", arguments)


def test_all_clients_have_the_methods_and_the_options_are_all_there() -> None:
    clients = TEXT.split("**Clients.**")[1]
    methods = set(re.findall(r"`(\w+)\((?:type|items|id)\b[^`]*\)`", clients))
    for client in (Client, AsyncClient, BlockingClient):
        public = {name for name in dir(client) if not name.startswith("_")}
        assert methods == public - {"close"}
    named = re.findall(r"`(\w+)`", clients.split("beside `type` and `payload`:")[1])
    assert set(named) == set(Options.__annotations__)
    for function, shown in ((open_client, "redis_url, queue"), (open_blocking_client, "redis_url, queue")):
        assert set(shown.split(", ")) <= set(inspect.signature(function).parameters)
    assert list(inspect.signature(Client).parameters) == ["url", "token", "patience"]
