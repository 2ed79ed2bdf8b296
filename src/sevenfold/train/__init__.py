"""Training: one deterministic loop for every recipe, replayable from any checkpoint."""
