"""Observers of events: metrics, logs and traces, and the endpoint that Prometheus scrapes."""
