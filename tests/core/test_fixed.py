"""Fixed point against exact rational arithmetic in Python's integers, at random and at every edge."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.core.numbers import fixed
from sevenfold.core.numbers.fixed import INT32_MAX, INT32_MIN, Scale

EDGES = sorted({s * (2**k + d) for k in range(32) for d in (-1, 0, 1) for s in (1, -1)})
INT32 = st.one_of(
    st.integers(INT32_MIN, INT32_MAX), st.sampled_from([e for e in EDGES if INT32_MIN <= e <= INT32_MAX])
)
BELOW_31_BITS = st.one_of(st.integers(-INT32_MAX, INT32_MAX), st.integers(-9, 9))
U16 = st.one_of(st.integers(0, 65535), st.sampled_from([0, 1, 32767, 32768, 65534, 65535]))
MANTISSA = st.integers(32768, 65535)
SHIFT = st.integers(-100, 100)


def half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def clamp(value: int) -> int:
    return min(max(value, INT32_MIN), INT32_MAX)


def power(exponent: int) -> Fraction:
    return Fraction(2) ** exponent


def array(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


# Rounding.


@given(st.lists(st.integers(-(2**61), 2**61), min_size=1), st.integers(0, 130))
def test_rshift(values: list[int], s: int) -> None:
    got = fixed.rshift(array(*values), s).tolist()
    # Past 62 the result is 0 by definition; the operand has fewer bits than that.
    assert got == [half_up(v * power(-s)) if s <= 62 else 0 for v in values]


def test_rshift_takes_a_shift_for_each_element() -> None:
    assert fixed.rshift(array(5, 5, 5, -5, -5), array(0, 1, 2, 1, 63)).tolist() == [5, 3, 1, -2, 0]


def test_rounding_is_half_up_not_away_from_zero() -> None:
    assert fixed.rshift(array(-3, -1, 1, 3), 1).tolist() == [-1, 0, 1, 2]


@given(INT32, U16, SHIFT)
def test_mulsh(a: int, m: int, s: int) -> None:
    got = fixed.mulsh(array(a), m, s).tolist()
    product = Fraction(a * m)
    exact = product * power(min(-s, 16)) if s < 0 else half_up(product * power(-s)) if s <= 62 else 0
    assert got == [clamp(int(exact))]


@given(INT32, MANTISSA, st.integers(-2000, 16))
def test_left_shifts_saturate_as_if_they_were_unbounded(a: int, m: int, s: int) -> None:
    exact = half_up(a * m * power(-s))
    assert fixed.mulsh(array(a), m, s).tolist() == [clamp(exact)]


@pytest.mark.parametrize("s", range(-20, 70))
def test_mulsh_at_every_shift_and_edge(s: int) -> None:
    edges = [e for e in EDGES if INT32_MIN <= e <= INT32_MAX]
    for m in (0, 1, 32767, 32768, 65535):
        got = fixed.mulsh(array(*edges), m, s).tolist()
        for a, value in zip(edges, got, strict=True):
            shifted = a * m * 2 ** min(-s, 16) if s < 0 else half_up(a * m * power(-s)) if s <= 62 else 0
            assert value == clamp(shifted), (a, m, s)


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1))
def test_saturate32(values: list[int]) -> None:
    assert fixed.saturate32(array(*values)).tolist() == [clamp(v) for v in values]


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1))
def test_bit_length(values: list[int]) -> None:
    assert fixed.bit_length(array(*values)).tolist() == [v.bit_length() for v in values]


def test_bit_length_at_powers_of_two() -> None:
    values = [0, *(2**k + d for k in range(63) for d in (-1, 0, 1))]
    assert fixed.bit_length(array(*values)).tolist() == [v.bit_length() for v in values]


# Scales.


@given(MANTISSA, st.integers(-90, 90), MANTISSA, st.integers(-90, 90))
def test_multiply_scales(m1: int, e1: int, m2: int, e2: int) -> None:
    got = fixed.multiply_scales(Scale(array(m1), array(e1)), Scale(array(m2), array(e2)))
    m, e = int(got.m[0]), int(got.e[0])
    assert 2**15 <= m < 2**16
    exact = Fraction(m1 * m2) * power(-e1 - e2)
    # Half a unit of the mantissa; at the carry to 2^16, half of the finer unit below it.
    assert abs(m * power(-e) - exact) <= power(-e) / 2


def test_a_product_that_rounds_to_65536_carries() -> None:
    pairs = [
        (m, n) for m in range(65436, 65536) for n in range(32768, 32868) if (m * n + 2**14) >> 15 == 65536
    ]
    assert pairs, "the case exists"
    for m, n in pairs:
        got = fixed.multiply_scales(Scale(array(m), array(3)), Scale(array(n), array(4)))
        assert (got.m.tolist(), got.e.tolist()) == ([32768], [7 - 15 - 1])


# Rows.


@given(st.lists(INT32, min_size=1, max_size=8), st.integers(8, 30))
def test_normalize(row: list[int], bits: int) -> None:
    u, shift = fixed.normalize(array(*row)[None], bits)
    s = int(shift[0, 0])
    assert s == max(1, *map(abs, row)).bit_length() - bits
    assert u[0].tolist() == [half_up(v * power(-s)) for v in row]
    assert np.abs(u).max() <= 2**bits
    if any(row):
        assert np.abs(u).max() >= 2 ** (bits - 1)


@given(st.lists(BELOW_31_BITS, min_size=1, max_size=8))
def test_quantize(row: list[int]) -> None:
    codes, scale = fixed.quantize(array(*row)[None])
    m, e, peak = int(scale.m[0]), int(scale.e[0]), max(map(abs, row))
    assert 2**15 <= m < 2**16
    assert -15 <= e <= 15
    assert np.abs(codes).max() <= 127
    if peak == 0:
        assert not codes.any()
        assert (m, e) == (2**15, 15)
        return
    # The largest magnitude becomes +-127, the scale is that magnitude cut to 16 bits,
    # and every code is within 0.5034 of the exact quotient.
    assert np.abs(codes).max() == 127
    assert m * power(-e) <= peak < (m + 1) * power(-e)
    for v, code in zip(row, codes[0].tolist(), strict=True):
        assert abs(code - Fraction(127 * v, peak)) <= Fraction(5040, 10000)


def test_quantize_looks_at_each_row_alone() -> None:
    codes, scale = fixed.quantize(array(1, -2, 100, 7, 0, 0).reshape(3, 2))
    assert codes.tolist() == [[64, -127], [127, 9], [0, 0]]
    assert scale.m.shape == scale.e.shape == (3,)


# Functions.


@pytest.mark.parametrize("length", range(1, 63))
def test_rsqrt(length: int) -> None:
    rng = np.random.default_rng(length)
    low, high = 2 ** (length - 1), 2**length - 1
    values = sorted({low, high, *rng.integers(low, high, 300, endpoint=True).tolist()})
    got = fixed.rsqrt(array(*values))
    assert got.m.min() >= 2**15
    assert got.m.max() < 2**16
    for v, m, e in zip(values, got.m.tolist(), got.e.tolist(), strict=True):
        # |r * sqrt(v) - 1| < 2^-14, squared to stay exact.
        ratio = Fraction(m * m * v) * power(-2 * e)
        assert (1 - power(-14)) ** 2 < ratio < (1 + power(-14)) ** 2


def test_rsqrt_at_every_leading_half() -> None:
    # Only the leading 16 bits enter: all of them.
    values = np.arange(2**14, 2**16) << 16
    got = fixed.rsqrt(values)
    assert (got.m.min(), got.m.max()) == (32768, 65534)
    error = got.m * np.exp2(-got.e) * np.sqrt(values.astype(float)) - 1
    assert np.abs(error).max() < 2**-14.2


def test_exp2_negative() -> None:
    d = np.arange(0, 17 * 65536, 7)
    got = fixed.exp2_negative(d)
    # Half a unit each from the table, the line and the shift, and what a line departs
    # from the curve (0.5 here).
    assert np.abs(got - 32512 * np.exp2(-d / 65536.0)).max() < 2.0
    assert (np.diff(got) <= 0).all()
    assert fixed.exp2_negative(array(0, 65536, 15 * 65536, 16 * 65536, 2**32 - 1)).tolist() == [
        32512, 16256, 1, 0, 0,
    ]  # fmt: skip


@given(st.integers(0, 2**32 - 1))
def test_exp2_negative_by_its_definition(d: int) -> None:
    table = fixed.exp2_table().tolist()
    index, rest = divmod(d % 65536, 1024)
    value = table[index] - half_up(Fraction((table[index] - table[index + 1]) * rest, 1024))
    assert fixed.exp2_negative(array(d)).tolist() == [half_up(value * power(-min(d // 65536, 31)))]


def test_sigmoid() -> None:
    g = np.arange(-(2**15) + 1, 2**15)
    got = fixed.sigmoid(g)
    assert np.abs(got - 32768 / (1 + np.exp(-g / 2048.0))).max() < 1.6
    assert (np.diff(got) >= 0).all()
    assert (got + got[::-1] == 32768).all()
    assert got.min() == 0
    assert got.max() == 32768
    assert got[2**15 - 1] == 16384


# Types.


@pytest.mark.parametrize("bad", [[1.0], np.zeros(2, np.float16), np.zeros(1, bool), ["1"], [None], 1j])
def test_as_ints_refuses_what_is_not_an_integer(bad: object) -> None:
    with pytest.raises(TypeError, match="integers only"):
        fixed.as_ints(bad)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", ">i2"])
def test_as_ints_widens(dtype: str) -> None:
    got = fixed.as_ints(np.array([0, 1, 100], dtype))
    assert got.dtype == np.int64
    assert got.tolist() == [0, 1, 100]
