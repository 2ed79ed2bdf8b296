"""Compute intervals and unbiased estimates, exactly up to the last division."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from sevenfold.core.errors import UsageError
from sevenfold.core.numbers.intervals import DIGITS, wilson


def upper_bound(n: int) -> float:
    """Return the upper 95 % bound of a share when none of `n` trials passed: 1 - 0.05^(1/n)."""
    return 1.0 if n == 0 else round(1 - math.exp(math.log(0.05) / n), DIGITS)


def pass_at_k(n: int, c: int, k: int) -> Fraction:
    """Return the unbiased estimate of pass@k for `c` of `n` samples: 1 - C(n-c, k) / C(n, k).

    Source: Chen and others, "Evaluating Large Language Models Trained on Code" (2021).

    Raises:
        UsageError: there are fewer samples than k, so the estimate does not exist.
    """
    if not 1 <= k <= n:
        raise UsageError(
            f"pass@{k} of {n} samples does not exist", where="--k", remedy="draw more samples with --samples"
        )
    return 1 - Fraction(math.comb(n - c, k), math.comb(n, k))


def mean(values: Sequence[Fraction | int]) -> Fraction:
    """Return the exact mean; 0 for no values."""
    return Fraction(sum(values, Fraction(0)), len(values)) if values else Fraction(0)


def figure(share: Fraction, n: int, n_units: int | None = None) -> dict[str, object]:
    """Return a share in the form of a score: value, exact fraction, n, interval, and the upper
    bound when it is 0.

    Args:
        n_units: the number of independent trials, when they are fewer than n (items that are each
            sampled several times).
    """
    units = n if n_units is None else n_units
    low, high = wilson(share, units)
    facts: dict[str, object] = {
        "value": round(float(share), DIGITS),
        "exact": f"{share.numerator}/{share.denominator}",
        "n": n,
        "low": low,
        "high": high,
    }
    return facts | ({"upper_bound": upper_bound(units)} if share == 0 else {})
