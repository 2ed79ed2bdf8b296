"""The worst case of every intermediate, by interval arithmetic over all
files that the loader accepts.

Each step of specs/arithmetic.md, section 3, is done on ranges instead of numbers;
data-dependent shifts take every value they can have. What comes out must fit the type that the
table of section 5 names, row by row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from test_arithmetic_page import rows

from sevenfold.core.numbers import fixed
from sevenfold.engine import ops, weights
from sevenfold.recipe import load_recipe
from sevenfold.recipe.schema import ExpertStacks
from sevenfold.recipe.shipped import recipe_paths

BOUNDS = {row[0]: row[2].split(",")[0] for row in rows("value | bound | fits")}


class Range(NamedTuple):
    """All integers from low to high."""

    low: int
    high: int

    def __or__(self, other: Range) -> Range:  # type: ignore[override]  (a union of ranges, not of types)
        return Range(min(self.low, other.low), max(self.high, other.high))

    @property
    def size(self) -> int:
        return max(-self.low, self.high)


def around(size: int) -> Range:
    return Range(-size, size)


def times(a: Range, b: Range) -> Range:
    corners = [x * y for x in a for y in b]
    return Range(min(corners), max(corners))


def plus(a: Range, b: Range) -> Range:
    return Range(a.low + b.low, a.high + b.high)


def dot(a: Range, b: Range, n: int) -> Range:
    return times(times(a, b), Range(n, n))


def rshift(a: Range, s: int) -> Range:
    return a if s == 0 else Range(*((v + (1 << (s - 1))) >> s for v in a))


def mulsh(a: Range, m: Range, s: int) -> Range:
    """The least shift gives the largest result; the others lie within."""
    product = times(a, m)
    return Range(*(min(max(v, -(2**31)), 2**31 - 1) for v in rshift(product, s)))


def normalize(size: int, bits: int) -> Range:
    """NORMALIZE of any row whose peak is `size` at most: each bit length of the peak in turn."""
    out = Range(0, 0)
    for length in range(1, size.bit_length() + 1):
        peak = around(min(2**length - 1, size))
        s = length - bits
        out |= rshift(peak, s) if s > 0 else times(peak, Range(2**-s, 2**-s))
    return out


CODE, MANTISSA, Q15 = around(127), Range(2**15, 2**16 - 1), Range(-(2**15), 2**15 - 1)
I32 = Range(-(2**31), 2**31 - 1)


class Sizes(NamedTuple):
    """What decides the widths."""

    d_model: int
    d_ffn: int
    n_heads: int
    head_dim: int
    context: int


LIMITS = Sizes(*(weights.LIMITS[name] for name in Sizes._fields))
SIZES = {"the loader's limits": LIMITS, "the promised limits": Sizes(4096, 16384, 32, 128, 2**20)}


def recipe_sizes() -> dict[str, Sizes]:
    found = {}
    for name, path in recipe_paths().items():
        model = load_recipe(path).model
        stack = model.moe.d_ffn if isinstance(model.moe, ExpertStacks) else 0
        shape = (model.n_heads, model.head_dim, model.context)
        found[name] = Sizes(model.d_model, max(model.d_ffn, stack), *shape)
    return found


def projection(n_inputs: int) -> dict[str, Range]:
    acc = dot(CODE, CODE, n_inputs)
    lifted = times(acc, Range(*[2 ** ops.headroom(n_inputs)] * 2))
    y = mulsh(lifted, Range(0, 2**16 - 1), weights.MIN_ROW_SHIFT)
    return {"acc of LINEAR, of scores": acc, "acc * 2^lift": lifted, "y of LINEAR": y}


def norm(s: Sizes) -> dict[str, Range]:
    small = normalize(
        2**31, ops.NORM_INPUT_BITS
    )  # RSHIFT by `down`, or no shift at all: within NORMALIZE's range
    squares = dot(small, small, s.d_model)
    squares = Range(0, squares.high)
    y = mulsh(normalize(2**31, 30), Range(0, 2**15), 17)
    return {
        "sum of q^2": squares,
        "S": Range(1, squares.high + weights.MAX_EPS),
        "y of RMS_NORM": y,
    }


def root() -> dict[str, Range]:
    """Every value that floor(M / 2^16) can have."""
    m = np.arange(2**14, 2**16)
    r = fixed.rsqrt_table()[(m >> 8) - 64]
    q = r * r >> 16
    w = (3 << 30) - q * m
    last = r * (w >> 16)
    both = [Range(int(v.min()), int(v.max())) for v in (r * r, q * m, w, last)]
    return {"r * r, q * (M >> 16), w, r * (w >> 16) in RSQRT": both[0] | both[1] | both[2] | both[3]}


def scores(s: Sizes) -> dict[str, Range]:
    lifted = projection(s.head_dim)["acc * 2^lift"]
    unit = normalize(2**31, ops.ROPE_INPUT_BITS)
    turned = plus(times(unit, Q15), times(unit, Q15))
    return {
        "half of a score": mulsh(lifted, MANTISSA, 16),
        "a cos - b sin": turned,
        "max score - score": Range(0, I32.high - I32.low),
    }


def weighted(keys: int) -> dict[str, Range]:
    """The sum of P, its shift, and the product with V, for up to `keys` visible keys."""
    bits = ops.P_SUM_BITS - (keys > ops.LONG_CONTEXT)
    p = Range(0, 32512)
    total, shifted = Range(1, 1), Range(0, 0)
    for length in range(15, (p.high * keys).bit_length() + 1):
        drop = max(length - bits, 0)
        most = min(2**length - 1, p.high * keys)
        one = rshift(p, drop)
        # Each of the rounded weights is above the exact one by a half at most.
        total |= Range(1, min(keys * one.high, (2 * most + keys * 2**drop) // 2 ** (drop + 1)))
        shifted |= one
    f = mulsh(shifted, MANTISSA, 16)
    assert f.high <= shifted.high, "so the sum of f is at most the sum of p"
    return {"total": total, "f_j": f, "acc of attention": times(total, CODE)}


def outputs() -> dict[str, Range]:
    """o for each length of the total and each divisor: |acc| is at most 127 times the total."""
    d, most = np.arange(2**15, 2**16), 0
    for length in range(15, 26):
        total = ((d + 1) << (length - 16)) - 1 if length >= 16 else d >> (16 - length)
        most = max(most, int(fixed.rshift(127 * total * ((2**31 - 1) // d), length - 1).max()))
    return {"o": around(most)}


def swiglu() -> dict[str, Range]:
    g = np.arange(-(2**15) + 1, 2**15)
    product = g * fixed.sigmoid(g)
    inside = Range(int(product.min()), int(product.max()))
    silu = rshift(inside, ops.GATE_FRACTION) | Range(0, 2**26 * 16)
    a, b = normalize(silu.size, ops.SWIGLU_BITS), normalize(2**31, ops.SWIGLU_BITS)
    return {"g * SIGMOID(g)": inside, "silu, a * b of SwiGLU": silu | times(a, b)}


def walk(s: Sizes) -> dict[str, Range]:
    """Every row of the page's table, for models of these sizes and smaller."""
    widest = max(s.d_model, s.d_ffn, min(s.n_heads * s.head_dim, ops.MAX_INPUTS))
    short, long = min(s.context, ops.LONG_CONTEXT), s.context
    found = projection(widest) | norm(s) | root() | scores(s) | outputs() | swiglu()
    one, other = weighted(short), weighted(long)
    found |= {name: one[name] | other[name] for name in one}
    found["a * m in MULSH"] = times(I32, Range(0, 2**16 - 1))
    found["sum of p, 131072 keys"] = Range(0, 32512 * short)
    found["sum of p, 1048576 keys"] = Range(0, 32512 * long)
    return found


TYPES = {
    "i32": I32,
    "u32": Range(0, 2**32 - 1),
    "two words": Range(-(2**63), 2**63 - 1),
    "two balanced limbs of i8": Range(-128 * 256 - 128, 127 * 256 + 127),
}
ELSEWHERE = {"every e"}  # test_arithmetic_page


def test_every_row_of_the_page_is_computed() -> None:
    named = {name for name in BOUNDS if name.split(",")[0] not in ELSEWHERE}
    assert set(walk(LIMITS)) == named


@pytest.mark.parametrize("sizes", SIZES | recipe_sizes())
def test_every_intermediate_fits(sizes: str) -> None:
    for name, found in walk((SIZES | recipe_sizes())[sizes]).items():
        allowed = TYPES[BOUNDS[name]]
        assert allowed.low <= found.low <= found.high <= allowed.high, (name, found)


def test_quant_takes_what_it_is_given() -> None:
    # Domain: values below 2^31 in magnitude. What QUANT shifts left stays an
    # i32, and no code leaves 127.
    found = walk(LIMITS)
    for name in ("y of LINEAR", "y of RMS_NORM", "silu, a * b of SwiGLU", "o"):
        assert found[name].size < 2**31
    turned = rshift(found["a cos - b sin"], 15)
    assert turned.size < 2**31
    m = np.arange(2**15, 2**16)
    top = np.minimum(((m + 1) << 15) - 1, 2**31 - 1)  # the peak, shifted left by z - 1
    codes = fixed.mulsh(top, (127 << 24) // m, 39)
    assert (codes.min(), codes.max()) == (127, 127)
    assert fixed.mulsh(m << 15, (127 << 24) // m, 39).min() == 127


def test_one_bit_more_would_not_fit() -> None:
    # The canary: the walk sees what a wrong constant would do.
    assert dot(CODE, CODE, ops.MAX_INPUTS + 1).high > I32.high
    assert times(Range(0, 2**24 + 2**19), CODE).high > I32.high  # 24 bits past LONG_CONTEXT
    assert weighted(ops.LONG_CONTEXT)["acc of attention"].high <= I32.high
    assert 32512 * (ops.LONG_CONTEXT + 2000) > 2**32 - 1
    assert plus(*[times(around(2**15), around(2**15))] * 2).high == I32.high + 1  # RoPE at 15 bits
    assert times(around(2**16), Q15).size > 2**30


@pytest.mark.parametrize("name", sorted(recipe_paths()))
def test_recipes_lie_within_the_limits(name: str) -> None:
    model = load_recipe(recipe_paths()[name]).model
    for key, value in recipe_sizes()[name]._asdict().items():
        assert 1 <= value <= weights.LIMITS[key], key
    assert model.n_heads * model.head_dim <= ops.MAX_INPUTS
