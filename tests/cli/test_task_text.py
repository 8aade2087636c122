"""A task as people see it."""

from taskward.cli.task_text import lines_of

DEAD = {
    "id": "t1",
    "type": "mail",
    "priority": "low",
    "state": "dead",
    "terminal": True,
    "payload": {"to": "Zoë"},
    "result": None,
    "attempt": 2,
    "max_attempts": 2,
    "created_at": "2030-01-01T00:00:00.000Z",
    "finished_at": "2030-01-01T00:00:03.500Z",
    "worker_id": None,
    "tags": ["a", "b"],
    "last_error": {"type": "ValueError", "message": "no luck", "traceback": "Traceback:\n  x\nValueError: no luck\n"},
    "attempts": [
        {
            "n": n,
            "worker_id": "host:1:ab",
            "started_at": f"2030-01-01T00:00:0{n}.000Z",
            "finished_at": f"2030-01-01T00:00:0{n}.250Z",
            "outcome": "failed",
            "error": {"type": "ValueError", "message": "no luck", "traceback": "..."},
            "cancel_cause": cause,
        }
        for n, cause in ((1, "timeout"), (2, None))
    ],
}


def test_a_dead_task_shows_its_facts_its_last_error_and_its_attempts():
    assert lines_of(DEAD) == [
        "id          t1",
        "state       dead",
        "type        mail",
        "priority    low",
        "attempt     2 of 2",
        "created     2030-01-01T00:00:00.000Z",
        "finished    2030-01-01T00:00:03.500Z",
        "tags        a, b",
        'payload     {"to": "Zoë"}',
        "",
        "last error",
        "  Traceback:",
        "    x",
        "  ValueError: no luck",
        "",
        "attempts",
        "   1  failed     2030-01-01T00:00:01.000Z  0.250 s  host:1:ab  timeout  ValueError: no luck",
        "   2  failed     2030-01-01T00:00:02.000Z  0.250 s  host:1:ab  ValueError: no luck",
    ]


def test_a_result_is_shown_where_there_is_one_even_if_it_is_null():
    assert "result      null" in lines_of(DEAD | {"state": "succeeded"})
    assert not any(line.startswith("result") for line in lines_of(DEAD))


def test_a_running_task_shows_who_has_it_and_how_far_it_is():
    running = {"state": "running", "worker_id": "w", "progress": {"current": 3.0, "total": 10.0, "message": "rows"}}
    lines = lines_of(running)
    assert "worker      w" in lines
    assert "progress    3 of 10 rows" in lines
    assert "progress    0.5" in lines_of({"progress": {"current": 0.5}})


def test_an_error_without_a_traceback_is_its_type_and_message():
    assert lines_of({"last_error": {"type": "Retry", "message": ""}})[-1] == "  Retry"


def test_what_a_handler_wrote_cannot_command_the_terminal():
    error = {"type": "E", "message": "", "traceback": "\x1b[2Jgone\rover\x9b"}
    shown = "\n".join(lines_of(DEAD | {"last_error": error, "payload": "\x1b[31m"}))
    assert "\\x1b[2Jgone" in shown
    assert all(c.isprintable() for line in shown.split("\n") for c in line)
