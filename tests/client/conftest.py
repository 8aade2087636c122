"""Clients against the API as it runs."""

from tests.api.conftest import api, open_api

__all__ = ["api", "open_api"]
