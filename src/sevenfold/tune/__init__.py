"""Tune a sealed model: conversations become samples of which only the answers count in the loss.

The training itself is that of stage `train`: its loop, its records, its audit.
"""
