"""Verbs that look into sealed models and runs: what they hold, and whether it is true."""
