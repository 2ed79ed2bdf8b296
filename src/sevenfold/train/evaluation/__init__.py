"""Held-out figures of a float model: bits per byte, by position, and needle probes."""
