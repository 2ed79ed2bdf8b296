"""Exact shares, intervals, and scores."""
