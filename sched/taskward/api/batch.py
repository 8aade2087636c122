"""/tasks/batch: many submissions in one request, as a JSON array or as a stream of lines; one result each."""

from collections.abc import AsyncIterator, Sequence
from functools import partial

import msgspec
import trio
from quart import Response
from werkzeug.exceptions import RequestTimeout

from taskward.api.auth import Scope
from taskward.api.problems import Problem, problem_of
from taskward.api.render import JSON, NDJSON, encode, encode_lines, respond
from taskward.api.requests import body, request_nursery, require_content_type
from taskward.api.routes import Route
from taskward.api.service import Service
from taskward.api.streaming import respond_stream
from taskward.client.ahead import made_ahead, worked_ahead
from taskward.client.gateway import AT_ONCE, Answer, in_parts
from taskward.errors import BrokerUnavailable, TaskTooLarge, TaskwardError
from taskward.events import SubmissionRefused
from taskward.submission import parse_lines, parse_many, parse_or_error
from taskward.task import Submission, Submitted

Items = Sequence[Submission | TaskwardError]


class Result(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What became of the task at `index`. `status`: 202 created, 200 a replay, else the problem's."""

    index: int
    status: int
    id: str | None = None
    problem: Problem | None = None


class Counts(msgspec.Struct, frozen=True):
    """How many tasks of a batch were created, were there before, and were not taken."""

    created: int = 0
    duplicates: int = 0
    refused: int = 0


class BatchAnswer(msgspec.Struct, frozen=True):
    """The answer to a JSON array."""

    counts: Counts
    results: list[Result]


class LastLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """The end of the answer to a stream: without it, the answer is not whole. `problem`: why it ends early."""

    counts: Counts
    problem: Problem | None = None


async def accept_batch(service: Service, body: bytes) -> BatchAnswer:
    """What a JSON array of submissions means, whichever way it came."""
    items = parse_many(body, service.limits, service.now_ms())
    results = _results(await service.gateway.submit_many(service.traced_all(items)), first=0)
    return BatchAnswer(_told(results, service, Counts()), results)


async def submit_batch(service: Service) -> Response:
    """200 with a result per task, whatever became of it; a stream is answered as it comes."""
    if require_content_type(JSON, NDJSON) == NDJSON:
        nursery = request_nursery()
        parsed = made_ahead(_parse_chunks(service, body().chunks()), nursery, most=1)
        stored = worked_ahead(parsed, partial(_store_patiently, service, trio.Lock()), nursery, at_once=AT_ONCE)
        return respond_stream(_answer_parts(service, stored), nursery)
    return respond(await accept_batch(service, await body().read(service.max_body_bytes)))


async def _parse_chunks(service: Service, chunks: AsyncIterator[bytes]) -> AsyncIterator[Items | RequestTimeout]:
    """Lines as they come, at most MOST_PER_CALL together; at the end the error that ended them, if one did."""
    try:
        async for lines in whole_lines(chunks, most=service.max_body_bytes):
            for part in in_parts(lines):
                yield _parse_lines(part, service)
    except RequestTimeout as exc:
        yield exc


async def _answer_parts(service: Service, parts: AsyncIterator[list[Answer] | RequestTimeout]) -> AsyncIterator[bytes]:
    counts = Counts()
    problem = None
    first = 0
    async for answers in parts:
        if isinstance(answers, RequestTimeout):
            problem = problem_of(answers)
            break
        results = _results(answers, first=first)
        counts = _told(results, service, counts)
        first += len(results)
        yield encode_lines(results)
    yield encode(LastLine(counts, problem)) + b"\n"


async def whole_lines(chunks: AsyncIterator[bytes], *, most: int) -> AsyncIterator[list[bytes]]:
    """Lines that are not blank, those of a chunk together. Of a line longer than `most` only its first bytes are kept,
    one more than `most`.
    """
    begun = bytearray()  # the line whose end has not come; a chunk costs what is in it, however long the line is
    async for chunk in chunks:
        end, *lines = chunk.split(b"\n")
        begun += end[: most + 1 - len(begun)]
        if not lines:
            continue
        lines.insert(0, bytes(begun))
        begun = bytearray(lines.pop()[: most + 1])
        if found := [line for line in lines if line.strip()]:
            yield found
    if begun.strip():
        yield [bytes(begun)]


def _parse_lines(lines: Sequence[bytes], service: Service) -> Items:
    most, now_ms = service.max_body_bytes, service.now_ms()
    if max(map(len, lines)) <= most:
        return parse_lines(lines, service.limits, now_ms)
    too_large = TaskTooLarge(f"the line is longer than {most} bytes")
    return [too_large if len(line) > most else parse_or_error(line, service.limits, now_ms) for line in lines]


async def _store_patiently(
    service: Service, turn: trio.Lock, items: Items | RequestTimeout
) -> list[Answer] | RequestTimeout:
    """For a stream, whose status is out already: an outage is the result of each item it meets."""
    if isinstance(items, RequestTimeout):
        return items
    try:
        return await service.gateway.submit_many(service.traced_all(items), turn=turn)
    except BrokerUnavailable as exc:
        return [exc if isinstance(item, Submission) else item for item in items]


def _results(answers: Sequence[Answer], *, first: int) -> list[Result]:
    return [_result(answer, index=n) for n, answer in enumerate(answers, first)]


def _result(answer: Answer, *, index: int) -> Result:
    if isinstance(answer, Submitted):
        return Result(index, 202 if answer.created else 200, answer.id)
    problem = problem_of(answer)
    return Result(index, problem.status, problem=problem)


def _told(results: Sequence[Result], service: Service, before: Counts) -> Counts:
    """-> the counts with these results. The observer hears of those that were refused."""
    statuses = [result.status for result in results]
    refused = [result.problem for result in results if result.problem is not None]
    for problem in refused:
        service.observe(SubmissionRefused(problem.word))
    return Counts(
        before.created + statuses.count(202), before.duplicates + statuses.count(200), before.refused + len(refused)
    )


ROUTES = (Route("POST", "/tasks/batch", Scope.SUBMIT, submit_batch),)
