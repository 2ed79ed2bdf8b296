"""Continuous batching: the scheduler, the sequences that it runs, and their growing answers."""
