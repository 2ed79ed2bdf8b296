"""Tuning a sealed model: conversations become samples of which the answers carry loss.

The training itself is that of stage `train`: its loop, its records, its audit.
"""
