"""The learning rate: a linear warm-up, then half a cosine (arXiv 1608.03983) down to a share of the
peak rate.

The cosine is rounded once from exact arithmetic, so no C library decides a bit of it.
"""

from __future__ import annotations

from sevenfold.recipe.schema import TrainSpec
from sevenfold.train.arithmetic import half_turn_cosine


def n_steps(spec: TrainSpec) -> int:
    """Return how many whole steps the token budget allows; at least one."""
    return max(1, spec.tokens // (spec.batch_sequences * spec.sequence))


def learning_rate(spec: TrainSpec, step: int) -> float:
    """Return the rate of step 0 .. n_steps - 1. The rate of the first step is not zero, and that of
    the last step is next to the minimum. A run that continues a trunk has its own schedule, which
    begins at its own first step.
    """
    step -= spec.first_step
    total = n_steps(spec) - spec.first_step
    warmup = max(1, round(spec.warmup_ratio * total))
    if step < warmup:
        return spec.learning_rate * (step + 1) / warmup
    cosine = half_turn_cosine(step - warmup, max(1, total - warmup))
    low = spec.min_learning_rate_ratio
    return spec.learning_rate * (low + (1.0 - low) * 0.5 * (1.0 + cosine))
