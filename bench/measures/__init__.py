"""The measures, by the name they are asked for."""

from collections.abc import Callable, Sequence

from bench.measures import durability, latency, load, memory, submission, throughput
from bench.report import Reading
from bench.setup import Setup

Measure = Callable[[Setup], Sequence[Reading]]

# In this order where none is named. What each docstring says is what `python -m bench --help` says.
MEASURES: dict[str, Measure] = {
    "noop": throughput.noop,
    "sleep": throughput.sleep,
    "idle": latency.idle,
    "submit": submission.in_process,
    "http": submission.over_http,
    "ndjson": submission.ndjson,
    "memory": memory.queued,
    "fsync": durability.fsync,
    "scale": throughput.scale,
    "load": load.under_load,
    "saturated": load.saturated,
    "backlog": load.backlog,
    "burn": load.burn,
    "million": memory.million,
    "rss": memory.rss,
}
