"""Continuous batching: what the scheduler runs, and how answers grow."""
