"""Answers in parts, made ahead of a client that does not read yet: many do not while they send."""

from collections.abc import AsyncIterator

import trio
from quart import Response

from taskward.api.render import NDJSON
from taskward.client.ahead import made_ahead

# Parts that wait to be read. Beyond them the maker waits too: a client must read while it sends.
MOST_AHEAD = 256


def respond_stream(parts: AsyncIterator[bytes], exchange: trio.Nursery) -> Response:
    """NDJSON as it comes; it may take as long as it likes. The parts are made in `exchange`, which ends with it."""
    response = Response(made_ahead(parts, exchange, most=MOST_AHEAD), 200, content_type=NDJSON)
    response.timeout = None
    return response
