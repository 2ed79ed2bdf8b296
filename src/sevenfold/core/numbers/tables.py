"""Compute the tables of the integer arithmetic without floating point, so that every machine gets
the same entries.

`decimal` is correctly rounded software arithmetic. At 50 digits no entry is close enough to a half
to be in doubt. The digest of the tables is in specs/arithmetic.md and in the graph, so that no
engine runs a model under other tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from itertools import accumulate, repeat
from operator import mul

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.hashing import digest

_CONTEXT = Context(prec=50)
# The versions of specs/arithmetic.md, side by side: a file names the one that it needs. Version 1
# has causal attention. Version 2 adds hybrid attention and changes no result of version 1.
LAW_VERSION, HYBRID_LAW_VERSION = 1, 2
# Working precision of the rotation recurrence, which loses 20 bits over 2^20 steps.
_FIXED_BITS = 160
ROPE_BITS = 15
_PI = Decimal("3.1415926535897932384626433832795028841971693993751")
_YARN_SLOW, _YARN_FAST = (
    Decimal(1),
    Decimal(32),
    # Turns within the trained context: alpha and beta of the YaRN publication.
)


def _round(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_HALF_UP))


def _powers(base: Decimal, n_powers: int) -> Iterator[Decimal]:
    """Return base^0, base^1, ... by one product each. A library call for each would dominate a
    short process, because tables are made at import.
    """
    return accumulate(repeat(base, n_powers - 1), mul, initial=Decimal(1))


def exp2() -> NDArray[np.int64]:
    """Return round(32512 * 2^(-i/64)), i = 0..64. 32512 = 127 * 256 keeps every entry inside two
    balanced int8 limbs.
    """
    with localcontext(_CONTEXT):
        powers = _powers(Decimal(2) ** (Decimal(-1) / 64), 65)
        return np.array([_round(32512 * power) for power in powers], np.int64)


def sigmoid() -> NDArray[np.int64]:
    """Return round(32768 / (1 + e^(-i/32))), i = 0..512."""
    with localcontext(_CONTEXT):
        powers = _powers((Decimal(-1) / 32).exp(), 513)
        return np.array([_round(32768 / (1 + power)) for power in powers], np.int64)


def rsqrt() -> NDArray[np.int64]:
    """Return min(65535, round(2^16 / sqrt((i + 64.5) / 64))), i = 0..191:
    the middle of each interval.
    """
    with localcontext(_CONTEXT):
        entries = [_round(65536 / ((Decimal(i) + Decimal("64.5")) / 64).sqrt()) for i in range(192)]
        return np.minimum(np.array(entries, np.int64), 65535)


def law_digest() -> str:
    """Return the hex digest of the three fixed tables, each as big-endian int64."""
    return digest("sevenfold/tables/1", *(t.astype(">i8").tobytes() for t in (exp2(), sigmoid(), rsqrt())))


def rope_frequencies(
    head_dim: int, theta: float, scaling: str = "none", factor: float = 1.0
) -> list[Decimal]:
    """Return the angle per position of each rotated pair: theta^(-2i/head_dim), i < head_dim/2
    (RoPE, arXiv 2104.09864).

    `linear` divides positions by `factor`; `ntk` raises theta to theta * factor^(d / (d - 2)).

    Raises:
        ValueError: another kind of scaling, or `ntk` with heads of 2.
    """
    with localcontext(_CONTEXT):
        base, stretch = _base(head_dim, theta, scaling, factor), Decimal(factor)
        divisor = stretch if scaling == "linear" else Decimal(1)
        return [base ** (Decimal(-2 * i) / head_dim) / divisor for i in range(head_dim // 2)]


def llama3_frequencies(
    head_dim: int, theta: float, factor: float, low: float, high: float, original: int
) -> list[Decimal]:
    """Return the angle per position of each pair under Llama 3's scaling (`rope_type: llama3`).

    A pair that turns more than `high` times within the `original` context keeps its frequency, one
    that turns less than `low` times is slowed down by `factor`, and those between are mixed by
    their number of turns.

    Raises:
        ValueError: `high` is not above `low`.
    """
    if not high > low:
        raise ValueError(f"llama3 scaling mixes between {low} and {high} turns, which do not ascend")
    with localcontext(_CONTEXT):
        floor, ceiling, slow = Decimal(low), Decimal(high), 1 / Decimal(factor)
        scaled = []
        for frequency in rope_frequencies(head_dim, theta):
            turns = Decimal(original) * frequency / (2 * _PI)
            kept = min(max((turns - floor) / (ceiling - floor), Decimal(0)), Decimal(1))
            scaled.append(frequency * (kept + (1 - kept) * slow))
        return scaled


def yarn_frequencies(head_dim: int, theta: float, factor: float, trained: float) -> list[Decimal]:
    """Return the angle per position of each pair under YaRN (arXiv 2309.00071, section 3.2,
    "NTK-by-parts"; alpha 1, beta 32).

    A pair that turns more than 32 times within the `trained` context keeps its frequency, one that
    turns less than once is slowed down by `factor`, and those between are mixed along a ramp.
    """
    with localcontext(_CONTEXT):
        slow, share = 1 / Decimal(factor), []
        plain = rope_frequencies(head_dim, theta)
        for frequency in plain:
            turns = Decimal(trained) * frequency / (2 * _PI)
            share.append(min(max((turns - _YARN_SLOW) / (_YARN_FAST - _YARN_SLOW), Decimal(0)), Decimal(1)))
        return [f * (kept + (1 - kept) * slow) for f, kept in zip(plain, share, strict=True)]


def yarn_temperature(factor: float) -> float:
    """Return the factor by which YaRN multiplies queries and keys: 0.1 * ln(factor) + 1, the sqrt(1
    / t) of the publication.
    """
    with localcontext(_CONTEXT):
        return float(1 + Decimal(factor).ln() / 10)


def rope_base(head_dim: int, theta: float, scaling: str = "none", factor: float = 1.0) -> float:
    """Return the rope base for a runtime without `ntk`: theta, raised where the scaling raises it.
    Raises ValueError.
    """
    return float(_base(head_dim, theta, scaling, factor))


def _base(head_dim: int, theta: float, scaling: str, factor: float) -> Decimal:
    if scaling not in ("none", "linear", "ntk"):
        raise ValueError(f"rope scaling {scaling!r} is not defined here")
    if scaling != "ntk":
        return Decimal(theta)
    if head_dim <= 2:
        raise ValueError(f"rope scaling 'ntk' needs heads wider than 2, not {head_dim}")
    with localcontext(_CONTEXT):
        return Decimal(theta) * Decimal(factor) ** (Decimal(head_dim) / (head_dim - 2))


def rope(frequencies: Sequence[Decimal], context: int) -> NDArray[np.int16]:
    """Return the cosine and sine of position * frequency in Q15, clamped to 32767. int16 [context,
    len(frequencies), 2].

    One exact rotation per pair, then a recurrence in 160-bit fixed point.
    """
    out = np.empty((context, len(frequencies), 2), np.int16)
    for pair, frequency in enumerate(frequencies):
        step_cos, step_sin = _cos_sin(frequency)
        cos, sin = 1 << _FIXED_BITS, 0
        for position in range(context):
            out[position, pair] = _q15(cos), _q15(sin)
            cos, sin = (
                (cos * step_cos - sin * step_sin) >> _FIXED_BITS,
                (sin * step_cos + cos * step_sin) >> _FIXED_BITS,
            )
    return out


def _q15(value: int) -> int:
    drop = _FIXED_BITS - ROPE_BITS
    return min((value + (1 << (drop - 1))) >> drop, 32767)


def _cos_sin(angle: Decimal) -> tuple[int, int]:
    """Return the cosine and sine of an angle in [0, 1] by their series, in fixed point."""
    with localcontext(_CONTEXT):
        x = int(angle * (1 << _FIXED_BITS))
    cos, sin, term, n = 0, 0, 1 << _FIXED_BITS, 0
    while term:
        cos += term if n % 4 == 0 else -term if n % 4 == 2 else 0
        sin += term if n % 4 == 1 else -term if n % 4 == 3 else 0
        n += 1
        term = ((term * x) >> _FIXED_BITS) // n
    return cos, sin
