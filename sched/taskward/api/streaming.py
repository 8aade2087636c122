"""Answers in parts, made ahead of a client that does not read yet: many do not while they send."""

from collections.abc import AsyncIterator

import trio
from quart import Response

from taskward.api.render import NDJSON
from taskward.client.ahead import made_ahead

# Parts that wait to be read. Beyond them the maker waits too: a client must read while it sends.
MOST_AHEAD = 256


def respond_stream(
    parts: AsyncIterator[bytes], nursery: trio.Nursery, *, content_type: str = NDJSON, most: int = MOST_AHEAD
) -> Response:
    """As it comes; it may take as long as it likes. The parts are made in `nursery`, which ends with it, at most so
    many ahead.
    """
    response = Response(made_ahead(parts, nursery, most=most), 200, content_type=content_type)
    response.timeout = None
    return response
