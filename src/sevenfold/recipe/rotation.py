"""Rotation speed of each pair of a head, from theta and position scaling.

Training, integers and exports all use this one definition.
"""

from __future__ import annotations

from decimal import Decimal

from sevenfold.core.numbers.tables import (
    llama3_frequencies,
    rope_frequencies,
    yarn_frequencies,
    yarn_temperature,
)
from sevenfold.recipe.schema import ModelSpec, RopeScaling


def frequencies(head_dim: int, theta: float, scaling: RopeScaling) -> list[Decimal]:
    """Return the angle per position of each rotated pair, head_dim / 2 of them.

    Raises:
        ValueError: the scaling changes more than frequencies (`yarn`), or its numbers do not fit
            together.
    """
    if scaling.kind != "llama3":
        return rope_frequencies(head_dim, theta, scaling.kind, scaling.factor)
    low, high, original = scaling.low_frequency, scaling.high_frequency, scaling.original_context
    if low is None or high is None or original is None:
        raise ValueError("scaling llama3 needs low_frequency, high_frequency and original_context")
    return llama3_frequencies(head_dim, theta, scaling.factor, low, high, original)


def model_frequencies(spec: ModelSpec, scaling: RopeScaling) -> list[Decimal]:
    """Return the angle per position of each pair of a model, `yarn` included: it was trained on its
    context divided by the factor.

    Raises ValueError, as `frequencies`.
    """
    if scaling.kind != "yarn":
        return frequencies(spec.head_dim, spec.rope_theta, scaling)
    return yarn_frequencies(spec.head_dim, spec.rope_theta, scaling.factor, spec.context / scaling.factor)


def temperature(scaling: RopeScaling) -> float:
    """Return the factor of turned queries and keys: that of YaRN, else 1."""
    return yarn_temperature(scaling.factor) if scaling.kind == "yarn" else 1.0
