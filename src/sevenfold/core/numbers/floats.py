"""Sums of binary64 numbers whose bits no version of Python decides."""

from __future__ import annotations

from collections.abc import Iterable


def sum_in_order(values: Iterable[float]) -> float:
    """Return the sum of numbers, one added after the other, beginning at 0.

    `sum` does so up to Python 3.11. From 3.12 on it compensates for what rounding loses, and gives
    other bits.

    Example:
        >>> sum_in_order([0.1] * 10)
        0.9999999999999999
    """
    total = 0.0
    for value in values:
        total += value
    return total
