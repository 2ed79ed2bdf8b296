"""Rotation speed of each pair of a head, from theta and position scaling.

Training, integers and exports all use this one definition.
"""

from __future__ import annotations

from decimal import Decimal

from sevenfold.core.numbers.tables import llama3_frequencies, rope_frequencies
from sevenfold.recipe.schema import RopeScaling


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
