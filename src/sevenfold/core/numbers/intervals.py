"""Intervals of shares, 95 %."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

# Of the normal distribution, for 95 % between both ends.
Z_95 = 1.959963984540054
DIGITS = 6


def wilson(share: Fraction | float, n: int) -> tuple[float, float]:
    """Return the Wilson interval of a share of `n` trials, 95 %, rounded to six digits.

    Source: Wilson, "Probable inference, the law of succession" (1927). (0, 1) for n = 0.
    """
    if n == 0:
        return 0.0, 1.0
    p, z2 = float(share), Z_95 * Z_95
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return round(max(centre - half, 0.0), DIGITS), round(min(centre + half, 1.0), DIGITS)


def paired_increase(before: Sequence[float], after: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of after - before, and both ends of its interval, 95 %, rounded to six digits.

    The values are results of the same trials in one order. The interval is that of the normal
    distribution with the deviation of the differences.
    """
    gains = [b - a for a, b in zip(before, after, strict=True)]
    n = len(gains)
    mean = sum(gains) / n
    variance = sum((gain - mean) ** 2 for gain in gains) / max(n - 1, 1)
    half = Z_95 * math.sqrt(variance / n)
    return round(mean, DIGITS), round(mean - half, DIGITS), round(mean + half, DIGITS)
