"""How programs submit tasks: over HTTP (Client), or inside a Trio program straight to Redis (open_client)."""

from taskward.client.blocking import Client
from taskward.client.local import AsyncClient, open_client
from taskward.client.view import TaskView

__all__ = ["AsyncClient", "Client", "TaskView", "open_client"]
