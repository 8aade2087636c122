"""The same work done by other queues, each in an environment of its own: `python -m bench.peers`."""
