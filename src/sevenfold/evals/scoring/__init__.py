"""Compute exact shares, intervals and scores."""
