"""Handlers to try Taskward with."""
