"""Integer arithmetic of specs/arithmetic.md, section 2: the only places where a value is rounded.

Every function takes and returns NumPy integer arrays and rounds half up: floor((v + 2^(s-1)) / 2^s).
The reference computes in int64. No operation below wraps there for operands inside the stated
ranges. The page says how 32-bit hardware gets the same bits. A scale is a pair (m, e) with m in
[2^15, 2^16) and the value m * 2^-e.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
# In the width in which they are stored; `as_ints` widens them.
StoredInts = NDArray[np.integer[Any]]

INT32_MAX = 2**31 - 1
INT32_MIN = -(2**31)
# -128 is excluded, because its magnitude is not an i8 and it overflows pairwise i16 kernels.
CODE_MAX = 127
MAX_SHIFT = 62
# Bits of a cached code: the largest magnitude, and 127 divided by it as (m, e).
KV_CODES = {8: (127, 32768, 15), 6: (31, 33561, 13), 4: (7, 37157, 11)}

_EXP2: Ints
_SIGMOID: Ints
_RSQRT: Ints


class Scale(NamedTuple):
    """The value m * 2^-e. `m` and `e` are arrays of one shape, m in [2^15, 2^16)."""

    m: Ints
    e: Ints


def as_ints(values: Any) -> Ints:
    """Return an int64 view or copy of integers.

    Raises TypeError on anything that is not an integer array.
    """
    array = np.asanyarray(values)
    if array.dtype.kind not in "iu":
        raise TypeError(f"integers expected, got {array.dtype} (specs/arithmetic.md: integers only)")
    ints: Ints = array.astype(np.int64, copy=False)
    return ints


def saturate32(v: Ints) -> Ints:
    """Clamp to the int32 range."""
    return np.minimum(np.maximum(v, INT32_MIN), INT32_MAX)


def bit_length(v: Ints) -> Ints:
    """Return the bits needed for each value >= 0; bit_length(0) = 0."""
    for shift in (1, 2, 4, 8, 16, 32):
        v = v | (v >> shift)
    return np.bitwise_count(v).astype(np.int64)


def rshift(v: Ints, s: Ints | int) -> Ints:
    """Return floor(v / 2^s + 1/2) for |v| < 2^62 and s >= 0; s above 62 gives 0."""
    s = as_ints(s)
    shift = np.minimum(s, MAX_SHIFT)
    half = (np.int64(1) << shift) >> 1
    return np.where(s > MAX_SHIFT, np.int64(0), (v + half) >> shift)


def mulsh(a: Ints, m: StoredInts | int, s: StoredInts | int) -> Ints:
    """Return MULSH: a * m / 2^s, rounded half up, saturated to int32.

    Args:
        a: int32 range.
        m: [0, 2^16).
        s: any; above 62 the result is 0. Below 0 the product is shifted left, by 16 at most, where
            every product of a normalised m has saturated already.
    """
    product = a * as_ints(m)
    s = as_ints(s)
    left = np.minimum(np.maximum(-s, 0), 16)
    return saturate32(rshift(product << left, np.maximum(s, 0)))


def multiply_scales(a: Scale, b: Scale) -> Scale:
    """Return the product of two scales, renormalised to 16 bits half up (65536 becomes 32768 with
    one less in e).
    """
    product = a.m * b.m
    shift = bit_length(product) - 16
    m = rshift(product, shift)
    carry = m >> 16
    return Scale(m >> carry, a.e + b.e - shift - carry)


def normalize(v: Ints, bits: int) -> tuple[Ints, Ints]:
    """Shift each row (last axis) so that its largest magnitude has `bits` bits.

    Returns:
        (u, shift): v ~ u * 2^shift, shift of shape [..., 1]. Left shifts are exact; a right shift
        rounds, so |u| <= 2^bits.
    """
    peak = np.max(np.abs(v), axis=-1, keepdims=True)
    shift = bit_length(np.maximum(peak, 1)) - bits
    left = np.maximum(-shift, 0)
    return rshift(v << left, np.maximum(shift, 0)), shift


def quantize(v: Ints) -> tuple[Ints, Scale]:
    """Return QUANT: dynamic int8 codes of each row (last axis), from
    values below 2^31 in magnitude.

    The largest magnitude A becomes +-127 and no code leaves [-127, 127]. Only the top 16
    bits of A enter, so 0.2 % of the codes differ from exact division, by one, where the
    quotient is within 0.004 of a half.

    Returns:
        (codes, scale): v ~ codes * scale / 127, scale without the last axis. The 1/127 is folded
        into whatever multiplies next, when the model is quantised.
    """
    return quantize_kv(v, 8)


def quantize_kv(v: Ints, bits: int) -> tuple[Ints, Scale]:
    """Return QUANT for codes of 8, 6 or 4 bits. The scale has the unit of `quantize`: v ~ codes *
    scale / 127 for each width.
    """
    limit, m, e = KV_CODES[bits]
    peak = np.maximum(np.max(np.abs(v), axis=-1), 1)
    zeros = 32 - bit_length(peak)
    mantissa = (peak << zeros) >> 16
    reciprocal = (np.int64(limit) << 24) // mantissa
    codes = mulsh(v << (zeros - 1)[..., None], reciprocal[..., None], 39)
    scale = Scale(mantissa, zeros - 16)
    return codes, scale if bits == 8 else multiply_scales(scale, Scale(np.array(m), np.array(e)))


def rsqrt(v: Ints) -> Scale:
    """Return 1 / sqrt(v) for 1 <= v < 2^62: a 192-entry table and one Newton step, relative error
    below 2^-14.
    """
    length = bit_length(v)
    half_shift = (length - 31 - ((length - 31) & 1)) >> 1
    # An odd excess is rounded down to even, which leaves 32 bits: M is in [2^30, 2^32).
    shift = 2 * half_shift
    big = (v << np.maximum(-shift, 0)) >> np.maximum(shift, 0)
    r: Ints = rsqrt_table()[(big >> 24) - 64]
    q = (r * r) >> 16
    w = (np.int64(3) << 30) - q * (big >> 16)
    r = np.minimum(rshift(r * (w >> 16), 15), 65535)
    return Scale(r, 31 + half_shift)


def exp2_negative(d: Ints) -> Ints:
    """Return 32512 * 2^-d for d >= 0 in Q16: 64 linear pieces, then a rounding shift (31 at most)."""
    table = exp2_table()
    fraction = d & 0xFFFF
    index = fraction >> 10
    high = table[index]
    value = high - rshift((high - table[index + 1]) * (fraction & 1023), 10)
    return rshift(value, np.minimum(d >> 16, 31))


def sigmoid(g: Ints) -> Ints:
    """Return sigmoid(g) in Q15 for g in Q11, |g| < 16 (2^15): 512 linear
    pieces, and 1 - s for negative g.
    """
    table = sigmoid_table()
    magnitude = np.abs(g)
    index = magnitude >> 6
    low: Ints = table[index]
    value = low + rshift((table[index + 1] - low) * (magnitude & 63), 6)
    return np.where(g < 0, 32768 - value, value)


def exp2_table() -> Ints:
    """Return 65 entries round(32512 * 2^(-i/64))."""
    return _EXP2


def sigmoid_table() -> Ints:
    """Return 513 entries round(32768 / (1 + e^(-i/32)))."""
    return _SIGMOID


def rsqrt_table() -> Ints:
    """Return 192 entries min(65535, round(2^16 / sqrt((i + 64.5) / 64)))."""
    return _RSQRT


def _load_tables() -> tuple[Ints, Ints, Ints]:
    from sevenfold.core.numbers import tables

    return as_ints(tables.exp2()), as_ints(tables.sigmoid()), as_ints(tables.rsqrt())


_EXP2, _SIGMOID, _RSQRT = _load_tables()
