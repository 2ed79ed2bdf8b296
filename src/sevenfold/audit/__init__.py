"""Audits of a finished run: its origin, its differences from another run, and whether its training
replays.
"""
