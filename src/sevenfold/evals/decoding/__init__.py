"""Compute answers, log-likelihoods and bits per byte of a sealed model."""
