"""Compute log-probabilities of tokens from integer logits, in integers (specs/likelihood.md).

A value is in natural-log units with 32 fraction bits. It depends on the logits of its own row
alone, and sums are of integers, so a score is the same for any batch, backend and processor. No
floating-point exponential is used, because its last bits differ between processors.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from functools import cache, lru_cache

import numpy as np

from sevenfold.core.numbers.fixed import Ints, as_ints

FRACTION_BITS = 32
LOGIT_FRACTION = 16
# The most likely token has weight 2^40. A sum over 2^20 tokens then fits 61 bits.
WEIGHT_BITS = 40
# A gap of 40 natural units is a weight below 2^-57, which rounds to zero.
MAX_GAP = 40 << LOGIT_FRACTION
INDEX_BITS, REST_BITS = 10, 22
_CONTEXT = Context(prec=50, rounding=ROUND_HALF_UP)


def _rounded(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_HALF_UP))


@cache
def _law() -> tuple[int, int, Ints]:
    """Return log2(e) with 40 fraction bits, ln(2) with 32, and 2^40 * 2^(-i/1024) for i in 0 ..
    1023.
    """
    with localcontext(_CONTEXT):
        ln2 = Decimal(2).ln()
        log2_e = _rounded(Decimal(1 << 40) / ln2)
        table = [_rounded(Decimal(1 << WEIGHT_BITS) * (-ln2 * i / 1024).exp()) for i in range(1024)]
        return log2_e, _rounded(ln2 * (1 << 32)), as_ints(np.array(table, np.int64))


def weights(gap: Ints) -> Ints:
    """Return 2^40 * e^-g of each gap to the largest logit, rounded; gaps have 16 fraction bits.

    The relative error is below 2^-31 before the last rounding.
    """
    log2_e, ln2, table = _law()
    # The distance in powers of two, with 32 fraction bits.
    distance = (np.minimum(gap, MAX_GAP) * log2_e + (1 << 23)) >> 24
    index = (distance >> REST_BITS) & ((1 << INDEX_BITS) - 1)
    rest = distance & ((1 << REST_BITS) - 1)
    # x = rest * ln(2) with 32 fraction bits is below 2^22; 2^-rest = 1 - x + x^2/2 to 2^-34.
    x = (rest * ln2 + (1 << 31)) >> 32
    factor = (1 << 22) - ((x - ((x * x) >> 33) + (1 << 9)) >> 10)
    scaled = (table[index] * factor + (1 << 21)) >> 22
    whole = np.minimum(distance >> 32, 62)
    return as_ints((scaled + ((np.int64(1) << whole) >> 1)) >> whole)


@lru_cache(maxsize=4096)
def _ln(total: int) -> int:
    """Return ln(total / 2^40) with 32 fraction bits, rounded half up."""
    with localcontext(_CONTEXT):
        return _rounded((Decimal(total) / (1 << WEIGHT_BITS)).ln() * (1 << FRACTION_BITS))


def log_probabilities(logits_TV: Ints, ids_TN: Ints) -> Ints:
    """Return the log-probability of some tokens of each row.

    Args:
        logits_TV: int32 values with 16 fraction bits, in natural units.
        ids_TN: the tokens that are asked for, N for each row.

    Returns:
        [T, N], int64 with 32 fraction bits: 0 or below.
    """
    gap_TV = np.max(logits_TV, axis=1, keepdims=True) - logits_TV
    totals = weights(gap_TV).sum(axis=1)
    rows = np.array([_ln(int(total)) for total in totals], np.int64)
    picked = np.take_along_axis(gap_TV, ids_TN, axis=1)
    return as_ints(-(picked << (FRACTION_BITS - LOGIT_FRACTION)) - rows[:, None])


def most_likely(logits_TV: Ints, n: int) -> Ints:
    """Return the `n` most likely tokens of each row, [T, n]. Of equal tokens the lower id comes
    first.
    """
    return as_ints(np.argsort(-logits_TV, axis=1, kind="stable")[:, :n])


def as_float(log_probability: int) -> float:
    """Return a value as binary64, in natural-log units. Exact above -2^21."""
    return log_probability / (1 << FRACTION_BITS)
