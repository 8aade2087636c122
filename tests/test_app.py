"""App: what can be registered, as what, and what is refused before it can fail at night."""

import math
import sys
import types
from dataclasses import dataclass
from typing import Any

import pytest

from taskward.app import App, Kind, load
from taskward.errors import ConfigError
from taskward.task import RetryPolicy


@dataclass
class Email:
    to: str


@dataclass
class Report:
    day: str


async def in_trio(payload: Any) -> None: ...


def in_a_thread(payload: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "options", "kind"),
    [
        (in_trio, {}, Kind.TRIO),
        (in_a_thread, {}, Kind.THREAD),
        (in_trio, {"asyncio": True}, Kind.ASYNCIO),
        (in_a_thread, {"process": True}, Kind.PROCESS),
    ],
)
def test_where_a_handler_runs(function: Any, options: dict[str, Any], kind: Kind) -> None:
    app = App()
    assert app.task("t", **options)(function) is function
    assert app.handlers["t"].kind is kind
    assert app.handlers["t"].function is function


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (in_trio, {"process": True}),
        (in_a_thread, {"asyncio": True}),
        (in_trio, {"asyncio": True, "process": True}),
        (in_a_thread, {"asyncio": True, "process": True}),
    ],
)
def test_where_it_cannot_run(function: Any, options: dict[str, Any]) -> None:
    app = App()
    with pytest.raises(ConfigError, match="'t'"):
        app.task("t", **options)(function)
    assert app.handlers == {}


def test_without_a_name_the_functions_own() -> None:
    app = App()
    app.task()(in_trio)
    assert list(app.handlers) == ["in_trio"]


def test_a_forgotten_pair_of_parentheses_is_told() -> None:
    app = App()
    with pytest.raises(ConfigError, match="parentheses"):
        app.task(in_trio)  # type: ignore[arg-type]
    assert app.handlers == {}


def test_its_policy_is_kept() -> None:
    app = App()
    retry = RetryPolicy(base_seconds=3)
    app.task("t", timeout_seconds=1.5, max_attempts=2, retry=retry)(in_trio)
    handler = app.handlers["t"]
    assert (handler.timeout_seconds, handler.max_attempts, handler.retry) == (1.5, 2, retry)
    app.task("u")(in_trio)
    handler = app.handlers["u"]
    assert (handler.timeout_seconds, handler.max_attempts, handler.retry) == (None, None, None)


def test_a_type_has_one_handler() -> None:
    app = App()
    app.task("t")(in_trio)
    with pytest.raises(ConfigError, match="two handlers"):
        app.task("t")(in_a_thread)
    assert app.handlers["t"].function is in_trio


@pytest.mark.parametrize("name", ["unknown", "a" * 65, "line\nbreak", "bell\a"])
def test_a_type_needs_a_usable_name(name: str) -> None:
    app = App()
    with pytest.raises(ConfigError, match="task type"):
        app.task(name)(in_trio)
    assert app.handlers == {}


def test_a_name_of_any_script_will_do() -> None:
    app = App()
    for name in ("email.send", "a" * 64, "почта"):
        app.task(name)(in_trio)
    assert len(app.handlers) == 3


async def plain(payload: Email) -> None: ...
async def with_context(payload: Email, ctx: Any) -> None: ...
async def with_default(payload: Email, copies: int = 1) -> None: ...
async def unannotated(payload) -> None: ...  # type: ignore[no-untyped-def]
async def nothing() -> None: ...
async def three(payload: Any, ctx: Any, more: Any) -> None: ...
async def by_name(*, payload: Any) -> None: ...
async def starred(*payloads: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "wants_context", "payload_type"),
    [(plain, False, Email), (with_context, True, Email), (with_default, False, Email), (unannotated, False, Any)],
)
def test_what_a_handler_is_given(function: Any, wants_context: bool, payload_type: Any) -> None:
    app = App()
    app.task("t")(function)
    assert (app.handlers["t"].wants_context, app.handlers["t"].payload_type) == (wants_context, payload_type)


@pytest.mark.parametrize("function", [nothing, three, by_name, starred])
def test_what_no_handler_can_be_given(function: Any) -> None:
    with pytest.raises(ConfigError, match=r"\(payload\) or \(payload, context\)"):
        App().task("t")(function)


def test_a_label_is_a_registered_type_or_unknown() -> None:
    app = App()
    app.task("t")(in_trio)
    assert (app.label("t"), app.label("anything a client sends"), app.label("")) == ("t", "unknown", "unknown")


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("some_module_of_a_user")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_load_finds_an_app(module: types.ModuleType) -> None:
    app, other = App(), App()
    for each in (app, other):
        each.task()(in_trio)
    vars(module).update(app=app, other=other)
    assert load("some_module_of_a_user:app") is app
    assert load("some_module_of_a_user:other") is other
    assert load("some_module_of_a_user") is app


@pytest.mark.parametrize("path", ["no_such_module_anywhere:app", "some_module_of_a_user:missing", "json:app"])
def test_load_of_what_is_not_there(module: types.ModuleType, path: str) -> None:
    with pytest.raises(ConfigError, match="cannot load the app"):
        load(path)


@pytest.mark.parametrize(
    ("path", "hint"), [("shop/tasks:app", "package.module:name"), ("no_such_module", "looked for in /")]
)
def test_load_says_where_it_looked(path: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        load(path)


def test_load_of_an_app_that_handles_nothing(module: types.ModuleType) -> None:
    vars(module).update(app=App())
    with pytest.raises(ConfigError, match="no handlers"):
        load("some_module_of_a_user")


@pytest.mark.parametrize("path", ["", ":app"])
def test_load_of_no_module(path: str) -> None:
    with pytest.raises(ConfigError):
        load(path)


def test_load_of_an_app_whose_schedules_have_their_handlers(module: types.ModuleType) -> None:
    app = App()
    vars(module).update(app=app)
    app.schedule("nightly", "0 3 * * *", "report", {"day": "today"})

    @app.task()
    async def report(payload: Report) -> None: ...

    assert load("some_module_of_a_user:app") is app


@pytest.mark.parametrize(
    ("type", "payload", "said"),
    [("raport", {"day": "today"}, "no handler for 'raport'"), ("report", {"date": "today"}, "payload .*day")],
)
def test_load_of_an_app_whose_schedule_would_fail(module: types.ModuleType, type: str, payload: Any, said: str) -> None:
    app = App()
    vars(module).update(app=app)
    app.schedule("nightly", "0 3 * * *", type, payload)

    @app.task()
    async def report(payload: Report) -> None: ...

    with pytest.raises(ConfigError, match=f"schedule 'nightly': .*{said}"):
        load("some_module_of_a_user:app")


@pytest.mark.parametrize(
    "policy",
    [
        {"timeout_seconds": 0},
        {"timeout_seconds": math.inf},
        {"timeout_seconds": math.nan},
        {"max_attempts": 0},
        {"retry": RetryPolicy(base_seconds=math.inf)},
        {"retry": RetryPolicy(max_seconds=-1)},
        {"retry": RetryPolicy(jitter=1.5)},
    ],
)
def test_a_policy_that_is_none_is_refused(policy: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="task type 't'"):
        App().task("t", **policy)(lambda payload: None)


def test_load_of_what_is_no_app(module: types.ModuleType) -> None:
    vars(module).update(app={})
    with pytest.raises(ConfigError, match=r"is dict, not a taskward\.App"):
        load("some_module_of_a_user:app")
