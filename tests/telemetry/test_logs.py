"""A log line is facts: what the level asks for, once, and nothing that should not be read."""

import io
import json
import logging

import pytest

from taskward.events import (
    AdmissionChanged,
    BrokerCalled,
    HandlerStuck,
    LeaseWasLost,
    Lifecycle,
    LoopStalled,
    OutageBegan,
    OutageEnded,
    SampleFailed,
    TaskReaped,
    Trouble,
)
from taskward.policy.retry import Bury, Cancel, Release, RetryAsked, RetryIn, Stopped
from taskward.task import CancelCause
from taskward.telemetry.logs import LogObserver, configure
from taskward.telemetry.tracing import Span

from .given import ERROR, FAILED, SECRET, lease, sample, settled, started

SPAN = Span(0x0AF7651916CD43DD8448EB211C80319C, 0x00F067AA0BA902B7)
IDS = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "00f067aa0ba902b7"}
TASK = {"task_id": "task-7", "type": "echo", "priority": "default", "attempt": 1, "token": 7}

WARNINGS = [
    (
        TaskReaped("task-1", "low", "queued"),
        "lease expired, task taken back",
        {"id": "task-1", "priority": "low", "end": "queued"},
    ),
    (LeaseWasLost(lease(), "echo", 0.4, "extend"), "lease lost", {**TASK, "op": "extend"}),
    (HandlerStuck(lease(), "echo", "user", 9.0, "a\nb"), "handler does not let go", {**TASK, "cause": "user"}),
    (OutageBegan("worker", "refused"), "redis does not answer", {"part": "worker", "reason": "refused"}),
    (LoopStalled(2.0, "a\nb", ("task-1",)), "event loop stalled", {"seconds": 2.0, "tasks": ["task-1"]}),
    (Trouble("redis can lose tasks", {"warning": "no AOF"}), "redis can lose tasks", {"warning": "no AOF"}),
    (
        settled(Stopped(CancelCause.TIMEOUT), Bury("timeout", ERROR)),
        "attempt failed",
        {**TASK, "error": "Timeout", "then": "dead", "reason": "timeout"},
    ),
    (
        AdmissionChanged(("default", "low"), 0.8125),
        "redis is short of memory, submissions are refused",
        {"closed": "default,low", "memory": 0.812},
    ),
]
INFOS = [
    (Lifecycle("started", {"port": 2113, "after": 0.12345}), "started", {"port": 2113, "after": 0.123}),
    (AdmissionChanged((), 0.5), "redis has room again, submissions are taken", {"closed": "", "memory": 0.5}),
    (OutageEnded("worker", 2.5), "redis answers again", {"part": "worker", "seconds": 2.5}),
    (
        settled(FAILED, RetryIn(2.0, "exception", ERROR), span=SPAN),
        "attempt failed",
        {
            **TASK,
            **IDS,
            "error": "ValueError",
            "at": "/shop/post.py:12",
            "then": "retry",
            "reason": "exception",
            "retry_in": 2.0,
        },
    ),
    (
        settled(RetryAsked(None, ERROR), RetryIn(1.0, "asked", ERROR)),
        "attempt failed",
        {"error": "ValueError", "then": "retry", "reason": "asked"},
    ),
]
DEBUGS = [
    (started(), "attempt started", {**TASK, "waited": 0.2}),
    (settled(), "attempt ended", {**TASK, "seconds": 0.3, "then": "succeeded"}),
    (
        settled(Stopped(CancelCause.USER), Cancel(CancelCause.USER)),
        "attempt ended",
        {"then": "cancelled", "cause": "user"},
    ),
    (
        settled(Stopped(CancelCause.SHUTDOWN), Release(CancelCause.SHUTDOWN)),
        "attempt ended",
        {"then": "released", "cause": "shutdown"},
    ),
    (SampleFailed(), "sample failed", {}),
]


@pytest.fixture
def logged():
    """Configure, and get what was written; the test run's own logging is put back."""
    root, out = logging.getLogger(), io.StringIO()
    before = root.handlers[:], root.level

    def begin(level="info", fmt="json", **kwargs):
        configure(level, fmt, stream=out, **kwargs)
        return lambda: [json.loads(line) if fmt == "json" else line for line in out.getvalue().splitlines()]

    yield begin
    root.handlers[:], level = before
    root.setLevel(level)


@pytest.mark.parametrize(("event", "message", "fields"), WARNINGS + INFOS + DEBUGS)
def test_an_event_is_said_once_with_its_fields(logged, event, message, fields):
    lines = logged("debug")
    LogObserver()(event)
    (line,) = lines()
    assert line["msg"] == message
    assert line["logger"] == "taskward"
    assert line["ts"].endswith("Z")
    assert {k: line[k] for k in fields} == fields


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("debug", WARNINGS + INFOS + DEBUGS),
        ("info", WARNINGS + INFOS),
        ("warning", WARNINGS),
        ("error", []),
    ],
)
def test_the_level_decides_what_is_said(logged, level, said):
    lines = logged(level)
    observer = LogObserver()
    for event, _, _ in WARNINGS + INFOS + DEBUGS:
        observer(event)
    assert [line["msg"] for line in lines()] == [message for _, message, _ in said]


def test_what_is_not_worth_a_line_gets_none(logged):
    lines = logged("debug")
    for event in (BrokerCalled("step", 0.1), sample()):
        LogObserver()(event)
    assert lines() == []


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_no_payload_and_no_message_that_may_quote_it(logged, fmt):
    lines = logged("debug", fmt)
    for event, _, _ in WARNINGS + INFOS + DEBUGS:
        LogObserver()(event)
    assert SECRET not in str(lines())


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_secrets_are_masked_wherever_they_are(logged, fmt):
    lines = logged("debug", fmt)
    log = logging.getLogger("mine")
    log.info("connecting to redis://user:hunter2@host:1/0 with Bearer hunter2")
    log.info("x", extra={"password": "hunter2", "url": "rediss://:hunter2@h", "fields": {"Authorization": "hunter2"}})
    log.info("x", extra={"headers": {"Cookie": "hunter2", "via": ["http://me:hunter2@proxy"]}, "token": "hunter2"})
    try:
        raise ValueError("no route to redis://:hunter2@host")
    except ValueError:
        log.exception("it failed")
    assert "hunter2" not in str(lines())
    assert "redis://***@host:1/0" in str(lines())


NASTY = "a\nb\x1b[31m\x00\x9b\u2028\ud800 é"


def test_text_lines_hold_no_control_characters(logged):
    lines = logged("info", "text")
    logging.getLogger("mine").info(NASTY, extra={"task_id": NASTY, "n": 1.5, "ok": True, "none": None, "plain": "a-b"})
    (line,) = lines()
    assert line.isprintable()
    assert " n=1.5 ok=true none=null plain=a-b" in line
    assert "é" in line


def test_json_lines_are_ascii_and_say_the_same(logged):
    lines = logged("info", "json")
    logging.getLogger("mine").info(NASTY, extra={"task_id": NASTY, "msg_": "kept"})
    (line,) = lines()
    assert (line["msg"], line["task_id"], line["msg_"]) == (NASTY, NASTY, "kept")


def test_fields_do_not_overwrite_the_line(logged):
    lines = logged()
    LogObserver()(Lifecycle("started", {"msg": "forged", "level": "forged", "name": "worker"}))
    (line,) = lines()
    assert (line["msg"], line["level"], line["name"]) == ("started", "info", "worker")


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_an_exception_comes_with_its_traceback(logged, fmt):
    lines = logged("info", fmt)
    try:
        raise ValueError("\x1b[31mred")
    except ValueError:
        logging.getLogger("mine").exception("it failed")
    if fmt == "json":
        (line,) = lines()
        assert line["exception"].endswith("ValueError: \x1b[31mred")
    else:
        first, *rest = lines()
        assert first.endswith("mine: it failed")
        assert rest[-1] == r"    ValueError: \x1b[31mred"


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_a_line_belongs_to_the_current_trace(logged, fmt):
    lines = logged("info", fmt, current_span=lambda: SPAN)
    logging.getLogger("mine").info("hello")
    assert IDS["trace_id"] in str(lines()[0])


def test_talkative_libraries_are_kept_short(logged):
    lines = logged("debug")
    for name in ("urllib3.connectionpool", "hypercorn.error", "opentelemetry.sdk"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("trouble")
    assert [line["msg"] for line in lines()] == ["trouble"] * 3
