"""Tests of what observers make of events, and of how it leaves the process."""
