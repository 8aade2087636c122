"""Clients submit over HTTP (Client), or straight to Redis (open_client in Trio, open_blocking_client elsewhere)."""

from taskward.client.blocking import BlockingClient, open_blocking_client
from taskward.client.local import AsyncClient, open_client
from taskward.client.over_http import Client
from taskward.client.view import TaskView

__all__ = ["AsyncClient", "BlockingClient", "Client", "TaskView", "open_blocking_client", "open_client"]
