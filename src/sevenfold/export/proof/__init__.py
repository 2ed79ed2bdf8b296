"""Prove an export: the runtimes that will read it give the same answers."""
