"""Tuning: the loss of pairs of answers, and what a phase has to reach."""
