"""The recipes of specs/arithmetic.md in 32-bit arithmetic give the same bits as
`core.numbers.fixed` in 64.

Everything here is int32 and uint32 with wrap-around, as on hardware without 64-bit integers
(WGSL). A result that came out of an overflow would differ from the reference; shift amounts are
kept in 0 .. 31, as WGSL asks.
"""

from __future__ import annotations

import numpy as np
import pytest

from sevenfold.core.numbers import fixed
from sevenfold.core.numbers.fixed import INT32_MAX, INT32_MIN

I32, U32 = np.int32, np.uint32
N = 100_000
NEAR_POWERS = {s * (2**k + d) for k in range(32) for d in (-2, -1, 0, 1, 2) for s in (1, -1)}
EDGES = np.array(sorted(e for e in NEAR_POWERS if INT32_MIN <= e <= INT32_MAX))


def i(v: object) -> np.ndarray:
    """As int32; the bits are kept."""
    array = np.asarray(v)
    return array.view(I32) if array.dtype == U32 else array.astype(I32)


def u(v: object) -> np.ndarray:
    """As uint32; the bits are kept."""
    array = np.asarray(v)
    return array.view(U32) if array.dtype == I32 else array.astype(U32)


def shift_amount(s: object) -> np.ndarray:
    amount = np.asarray(s)
    assert ((amount >= 0) & (amount <= 31)).all(), "a shift that WGSL leaves undefined"
    return amount


def shl(v: np.ndarray, s: object) -> np.ndarray:
    return v << shift_amount(s).astype(v.dtype)


def shr(v: np.ndarray, s: object) -> np.ndarray:
    return v >> shift_amount(s).astype(v.dtype)


def clz(v: np.ndarray) -> np.ndarray:
    """Leading zeros of u32, int32; 32 for 0 (an instruction of every target)."""
    return i(32 - fixed.bit_length(v.astype(np.int64)))


# The recipes, as on the page.


def rshift(a: np.ndarray, s: np.ndarray) -> np.ndarray:
    before = shr(a, np.clip(s - 1, 0, 31))
    return np.where(s == 0, a, shr(before, 1) + (before & I32(1)))


def mulsh(a: np.ndarray, m: np.ndarray, s: np.ndarray) -> np.ndarray:
    hi = shr(a, 16) * i(m)
    lo = u(a & I32(0xFFFF)) * u(m)
    t = hi + i(shr(lo, 16))
    f = lo & U32(0xFFFF)
    # s >= 17
    narrow = shr(shr(t, np.clip(s - 17, 0, 31)) + I32(1), 1)
    # 1 <= s <= 16, and s <= 0 down to -15: t << k plus what is left of f
    k = np.clip(16 - s, 0, 31)
    down = np.clip(s, 1, 16)
    rest = np.where(s >= 1, shr(f + shl(U32(1) + 0 * f, down - 1), down), shl(f, np.clip(-s, 0, 15)))
    bound = shr(I32(INT32_MAX) + 0 * t, k)
    wide = shl(t, k) + i(rest)
    wide = np.where((t == bound) & (wide < shl(t, k)), I32(INT32_MAX), wide)
    wide = np.where(t > bound, I32(INT32_MAX), np.where(t < -bound - I32(1), I32(INT32_MIN), wide))
    # s <= -16: m is normalised wherever this happens, so only the sign is left
    far = np.where(a > 0, I32(INT32_MAX), np.where(a < 0, I32(INT32_MIN), I32(0)))
    return np.where(s >= 17, narrow, np.where(s > -16, wide, far))


def normalize(row: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    peak = np.max(np.where(row < 0, u(-row), u(row)), axis=-1, keepdims=True)
    shift = I32(32) - clz(np.maximum(peak, U32(1))) - I32(bits)
    left = shl(row, np.clip(-shift, 0, 31))
    return np.where(shift <= 0, left, rshift(row, np.clip(shift, 0, 31))), shift


def quantize(row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    peak = np.maximum(np.max(np.where(row < 0, u(-row), u(row)), axis=-1), U32(1))
    zeros = clz(peak)
    m = shr(shl(peak, zeros), 16)
    reciprocal = U32(127 << 24) // m
    codes = mulsh(shl(row, (zeros - 1)[:, None]), reciprocal[:, None], np.full(row.shape, 39))
    return codes, m, zeros - I32(16)


def multiply_mantissas(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    product = a * b
    shift = I32(16) - clz(product)
    m = shr(product + shl(U32(1) + 0 * a, shift - 1), shift)
    carry = shr(m, 16)
    return shr(m, carry), shift + i(carry)


def sum_of_squares(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    square = u(row * row)
    low = np.sum(square & U32(0xFFFF), axis=-1, dtype=U32)
    high = np.sum(shr(square, 16), axis=-1, dtype=U32)
    carried = high + shr(low, 16)
    return shr(carried, 16), shl(carried, 16) | (low & U32(0xFFFF))


def shift_pair(hi: np.ndarray, lo: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(hi, lo) >> s for s in 0 .. 36, truncated."""
    near = np.clip(s, 0, 31)
    crossing = np.where(near == 0, U32(0), shl(hi, np.clip(32 - near, 0, 31)))
    far = shr(hi, np.clip(s - 32, 0, 31))
    return np.where(s >= 32, U32(0), shr(hi, near)), np.where(s >= 32, far, shr(lo, near) | crossing)


def add_pair(ah: np.ndarray, al: np.ndarray, bh: np.ndarray, bl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low = al + bl
    return ah + bh + u(low < al), low


def rsqrt(hi: np.ndarray, lo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    length = np.where(hi > 0, I32(64) - clz(hi), I32(32) - clz(lo))
    half = shr(length - I32(31), 1)
    down, up = np.clip(2 * half, 0, 31), np.clip(-2 * half, 0, 31)
    big = np.where(half > 0, shift_pair(hi, lo, down)[1], shl(lo, up))
    r = u(fixed.rsqrt_table())[shr(big, 24) - U32(64)]
    w = U32(3 << 30) - shr(r * r, 16) * shr(big, 16)
    r = shr(r * shr(w, 16) + U32(1 << 14), 15)
    return np.minimum(r, U32(65535)), I32(31) + half


def exp2_negative(d: np.ndarray) -> np.ndarray:
    table = u(fixed.exp2_table())
    index, rest = shr(d & U32(0xFFFF), 10), d & U32(1023)
    high = table[index]
    value = high - shr((high - table[index + 1]) * rest + U32(512), 10)
    return u(rshift(i(value), i(np.minimum(shr(d, 16), U32(31)))))


def sigmoid(g: np.ndarray) -> np.ndarray:
    table = u(fixed.sigmoid_table())
    size = u(np.abs(g))
    low = table[shr(size, 6)]
    value = i(low + shr((table[shr(size, 6) + 1] - low) * (size & U32(63)) + U32(32), 6))
    return np.where(g < 0, I32(32768) - value, value)


# Against the reference.


def random32(rng: np.random.Generator, n: int = N) -> np.ndarray:
    """Random magnitudes of every bit length."""
    return rng.integers(INT32_MIN, INT32_MAX, n, endpoint=True) >> rng.integers(0, 32, n)


def test_rshift() -> None:
    rng = np.random.default_rng(1)
    a = np.concatenate([random32(rng), np.tile(EDGES, 33)])
    s = np.concatenate([rng.integers(0, 33, N), np.repeat(np.arange(33), len(EDGES))])
    assert np.array_equal(rshift(i(a), i(s)), fixed.rshift(a, s))


@pytest.mark.parametrize("normalised", [True, False])
def test_mulsh(normalised: bool) -> None:
    rng = np.random.default_rng(2)
    low, first = (32768, -70) if normalised else (0, -15)
    mantissas = np.array([low, low + 1, 32768, 49152, 65534, 65535])
    shifts = np.arange(first, 71)
    grid = np.array(np.meshgrid(EDGES, mantissas, shifts)).reshape(3, -1)
    a = np.concatenate([random32(rng), grid[0]])
    m = np.concatenate([rng.integers(low, 65536, N), grid[1]])
    s = np.concatenate([rng.integers(first, 71, N), grid[2]])
    assert np.array_equal(mulsh(i(a), u(m), i(s)), fixed.mulsh(a, m, s))


def test_mulsh_close_to_saturation() -> None:
    rng = np.random.default_rng(3)
    s, m = rng.integers(-15, 17, N), rng.integers(32768, 65536, N)
    target = np.where(rng.integers(0, 2, N) == 1, 1, -1) * 2.0**31
    a = np.round(target * np.exp2(s) / m).astype(np.int64) + rng.integers(-2, 3, N)
    a = np.clip(a, INT32_MIN, INT32_MAX)
    got = mulsh(i(a), u(m), i(s))
    assert np.array_equal(got, fixed.mulsh(a, m, s))
    assert ((got == INT32_MAX) | (got == INT32_MIN)).any()
    assert ((got != INT32_MAX) & (got != INT32_MIN)).any()


@pytest.mark.parametrize("bits", [14, 15, 30])
def test_normalize(bits: int) -> None:
    rng = np.random.default_rng(4)
    rows = random32(rng, 4 * N).reshape(-1, 4) >> rng.integers(0, 32, (N, 1))
    rows = np.concatenate([rows, EDGES[:, None] * [1, 0, 0, 0], 0 * EDGES[:4, None] * [1, 1, 1, 1]])
    got, shift = normalize(i(rows), bits)
    expected, expected_shift = fixed.normalize(rows, bits)
    assert np.array_equal(got, expected)
    assert np.array_equal(shift, expected_shift)


def test_quantize() -> None:
    rng = np.random.default_rng(5)
    rows = np.maximum(random32(rng, 4 * N).reshape(-1, 4) >> rng.integers(0, 32, (N, 1)), -INT32_MAX)
    edges = np.maximum(EDGES, -INT32_MAX)
    rows = np.concatenate([rows, np.stack([edges, -edges, edges // 2, 0 * edges], axis=1)])
    codes, m, e = quantize(i(rows))
    expected, scale = fixed.quantize(rows)
    assert np.array_equal(codes, expected)
    assert np.array_equal(m, scale.m)
    assert np.array_equal(e, scale.e)


def test_multiply_scales() -> None:
    rng = np.random.default_rng(6)
    edges = np.array([32768, 32769, 46340, 46341, 46342, 65534, 65535])
    a = np.concatenate([rng.integers(32768, 65536, N), np.repeat(edges, len(edges))])
    b = np.concatenate([rng.integers(32768, 65536, N), np.tile(edges, len(edges))])
    m, shift = multiply_mantissas(u(a), u(b))
    expected = fixed.multiply_scales(fixed.Scale(a, 0 * a), fixed.Scale(b, 0 * b))
    assert np.array_equal(m, expected.m)
    assert np.array_equal(-shift, expected.e)


@pytest.mark.parametrize("width", [1, 3, 4096, 65536])
def test_sum_of_squares_with_eps_and_its_root(width: int) -> None:
    rng = np.random.default_rng(width)
    n = max(4, min(2000, 2**20 // width))
    rows = rng.integers(-(2**14), 2**14, (n, width), endpoint=True)
    rows[0], rows[1], rows[2] = 2**14, 0, -(2**14)
    eps = np.concatenate([[2**48, 0, 1], rng.integers(0, 2**48, n - 3) >> rng.integers(0, 48, n - 3)])
    down = 2 * rng.integers(0, 19, n)
    high, low = sum_of_squares(i(rows))
    shifted = shift_pair(u(eps >> 32), u(eps & 0xFFFFFFFF), down)
    high, low = add_pair(high, low, *shifted)
    exact = np.sum(rows * rows, axis=-1) + (eps >> down)
    assert np.array_equal(high.astype(np.int64) << 32 | low, exact)
    low = np.where((high == 0) & (low == 0), U32(1), low)
    m, e = rsqrt(high, low)
    expected = fixed.rsqrt(np.maximum(exact, 1))
    assert np.array_equal(m, expected.m)
    assert np.array_equal(e, expected.e)


def test_rsqrt_of_every_magnitude() -> None:
    rng = np.random.default_rng(8)
    values = np.concatenate(
        [rng.integers(1, 2**62, N) >> rng.integers(0, 62, N), 2 ** np.arange(61), 2 ** np.arange(1, 62) - 1]
    )
    values = np.maximum(values, 1)
    m, e = rsqrt(u(values >> 32), u(values & 0xFFFFFFFF))
    expected = fixed.rsqrt(values)
    assert np.array_equal(m, expected.m)
    assert np.array_equal(e, expected.e)


def test_score_differences_fit_u32() -> None:
    rng = np.random.default_rng(9)
    scores = np.concatenate([random32(rng), EDGES, [INT32_MIN, INT32_MAX]])
    peak = np.maximum(np.roll(scores, 1), scores)
    difference = u(i(peak)) - u(i(scores))
    assert np.array_equal(difference, peak - scores)
    assert np.array_equal(exp2_negative(difference), fixed.exp2_negative(peak - scores))


def test_exp2_and_sigmoid_everywhere() -> None:
    d = np.arange(0, 2**21, 3)
    assert np.array_equal(exp2_negative(u(d)), fixed.exp2_negative(d))
    g = np.arange(-(2**15) + 1, 2**15)
    assert np.array_equal(sigmoid(i(g)), fixed.sigmoid(g))
    # The product of SiLU stays in int32.
    assert np.array_equal(i(g) * sigmoid(i(g)), g * fixed.sigmoid(g))


def length_of_sum(p: np.ndarray) -> np.ndarray:
    high, low = np.sum(shr(p, 8), axis=-1, dtype=U32), np.sum(p & U32(255), axis=-1, dtype=U32)
    return I32(8 + 32) - clz(high + shr(low, 8))


@pytest.mark.parametrize("keys", [1, 2, 131072, 131073, 2**20])
def test_the_length_of_the_sum_of_p(keys: int) -> None:
    rng = np.random.default_rng(keys)
    top = np.array([32512, 32512 >> 3, 1, 0])
    rows = np.stack([rng.integers(0, t, keys, endpoint=True) for t in top] + [np.full(keys, 32512)])
    rows[:, 0] = 32512  # the largest is always there
    # Sums next to a power of two, from both sides.
    for row, target in ((1, 2**20), (2, 2**16), (3, 2**15 + 1)):
        rest = np.minimum(target - 32512, 32512 * (keys - 1))
        rows[row, 1:] = rest // max(keys - 1, 1)
    assert np.array_equal(length_of_sum(u(rows)), fixed.bit_length(np.sum(rows, axis=-1)))


def test_two_dots_of_limbs_wrap_to_the_right_sum() -> None:
    f = np.full(131072, 128)  # the longest row of 24 bits: hi = 1, lo = -128
    high = (f + 128) >> 8
    dots = [np.sum(i(limb) * I32(127), dtype=I32) for limb in (high, f - (high << 8))]
    assert 256 * int(dots[0]) > INT32_MAX
    assert int(u(dots[0]) * U32(256) + u(dots[1])) == 127 * int(np.sum(f)) < INT32_MAX


def test_p_splits_into_two_balanced_codes() -> None:
    p = np.arange(32513)
    high = (p + 128) >> 8
    low = p - (high << 8)
    assert high.max() == 127
    assert (low.min(), low.max()) == (-128, 127)


def test_reciprocals_by_division_and_by_restoring_division() -> None:
    for dividend in (127 << 24, INT32_MAX):
        for divisor in (*range(32768, 65536, 97), 65535):
            remainder, quotient = 0, 0
            for bit in range(31, -1, -1):  # needs no divide instruction
                remainder = remainder << 1 | (dividend >> bit & 1)
                if remainder >= divisor:
                    remainder, quotient = remainder - divisor, quotient | 1 << bit
            assert quotient == dividend // divisor < 2**16


def test_recipes_stay_in_32_bits() -> None:
    # A wider type would make every comparison above pass for the wrong reason.
    one, unsigned = i(np.full((1, 2), 5)), u(np.full((1, 2), 5))
    results = [
        rshift(one, i([[1, 2]])),
        mulsh(one, unsigned, i([[1, 20]])),
        *normalize(one, 14),
        *quantize(one),
        *multiply_mantissas(u([[40000]]), u([[50000]])),
        *sum_of_squares(one),
        *shift_pair(unsigned, unsigned, np.array([[3, 33]])),
        *rsqrt(unsigned, unsigned),
        exp2_negative(unsigned),
        sigmoid(one),
    ]
    assert {result.dtype for result in results} <= {np.dtype(I32), np.dtype(U32)}
