"""Traces: a span for every request, submission and attempt, joined through the queue by W3C trace context.

The interface, and tracing that is off. What is on is in spans.py; otlp.py says which it is.
"""

# ruff: noqa: ARG002 - the interface's arguments: tracing that is off looks at none

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from taskward.events import Event
from taskward.task import Lease


class Span(NamedTuple):
    """The two ids that say where in a trace something happened."""

    trace_id: int
    span_id: int


Answered = Callable[[int], None]
CurrentSpan = Callable[[], Span | None]


class Tracing:
    """The interface, and tracing that is off: everything passes through. It costs a method call."""

    enabled = False

    def submitting(self, priority: str) -> str | None:
        """The `traceparent` a new task is to be stored with: that of a PRODUCER span, which has ended."""
        return None

    def attempt(self, lease: Lease) -> AbstractContextManager[Span | None]:
        """A CONSUMER span around one attempt, current while it is entered; the value names it where it is sampled.

        It ends once `observe` is told how the attempt ended. The first attempt of a task that waited for no time
        is a child of its submission; others begin a new trace that links to it.
        """
        return _NO_SPAN

    def request(self, method: str, route: str, headers: Mapping[str, str]) -> AbstractContextManager[Answered]:
        """A SERVER span around one request, by route template; tell the value the status. Headers in lower case."""
        return _NO_ANSWER

    def observe(self, event: Event) -> None:
        """An Observer: it must hear of the attempts."""

    def current_span(self) -> Span | None:
        """The current span where it is sampled: for log lines and exemplars."""
        return None

    def share(self) -> None:
        """Let the application's own spans, which are children of its attempt's, go the same way. Once a process."""

    def shutdown(self) -> None:
        """Send what is left. Blocks (otlp.py has an end to that)."""


_NO_SPAN: AbstractContextManager[None] = nullcontext()
_NO_ANSWER: AbstractContextManager[Answered] = nullcontext(lambda _: None)
