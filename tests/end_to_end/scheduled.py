"""An application with a schedule."""

from typing import Any

from taskward import App

app = App()
app.schedule("every-minute", "* * * * *", "pulse", {"beat": True}, timezone="Europe/Berlin", priority="high")


@app.task()
async def pulse(payload: Any) -> Any:
    """What it was given."""
    return payload
