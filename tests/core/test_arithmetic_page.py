"""specs/arithmetic.md says what the code does: constants, ranges, tables, digests, examples."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from sevenfold.core.numbers import fixed, tables
from sevenfold.engine import ops, weights
from sevenfold.engine.states import hybrid

PAGE = (Path(__file__).resolve().parents[2] / "specs" / "arithmetic.md").read_text(encoding="utf-8")


def rows(header: str) -> list[list[str]]:
    """Cells of the table that starts with this header, without back-quotes."""
    lines = PAGE.split(f"| {header} |", 1)[1].splitlines()[2:]
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return table


CONSTANTS = rows("constant | value | meaning")
EXAMPLES = rows("call | result")
HYBRID_KEYS = dict(rows("record or key | range"))
KV_CODES = rows("B | largest code c | widening")
KEYS = dict(rows("key | range"))
TABLES = rows("table | entry i | entries | first | last | SHA-256")


def test_the_tables_of_the_page_were_found() -> None:
    assert (len(CONSTANTS), len(KEYS), len(TABLES)) == (19, 18, 3)
    assert len(EXAMPLES) >= 40


@pytest.mark.parametrize(("name", "value"), [row[:2] for row in CONSTANTS])
def test_constants(name: str, value: str) -> None:
    found = [
        getattr(module, name) for module in (fixed, tables, ops, hybrid, weights) if hasattr(module, name)
    ]
    assert found
    assert {int(value)} == set(found)


def test_every_constant_of_the_operations_is_on_the_page() -> None:
    named = {row[0] for row in CONSTANTS}
    assert {n for n in vars(ops) if n.isupper() and not n.startswith("INT32")} <= named
    limits = {"MAX_EXPONENT", "MAX_EPS", "MIN_ROW_SHIFT"}
    assert limits <= {n for n in vars(weights) if n.isupper()} & named


def test_ranges_of_the_graph() -> None:
    for name, most in (weights.LIMITS | weights.STACK_LIMITS).items():
        assert KEYS[f"model.{name}"].split(",")[0] == f"1 .. {most}"
    for name, most in weights.ATTENTION_LIMITS.items():
        assert HYBRID_KEYS[f"attention.{name}"].split(",")[0] == f"1 .. {most}"
    assert KEYS["norm_eps"].startswith("0 .. 2^48:")
    for key in ("residual_exponent", "score_scale.e", "exponents.NAME"):
        assert KEYS[key].split(",")[0] == f"-{weights.MAX_EXPONENT} .. {weights.MAX_EXPONENT}"


@pytest.mark.parametrize("row", TABLES, ids=lambda row: row[0])
def test_tables(row: list[str]) -> None:
    table = getattr(tables, row[0])()
    assert [str(len(table)), str(table[0]), str(table[-1])] == row[2:5]
    assert hashlib.sha256(table.astype(">i8").tobytes()).hexdigest() == row[5]


def test_codes_of_the_cache() -> None:
    stated = {int(b): (int(c), widening) for b, c, widening in KV_CODES}
    assert set(stated) == set(fixed.KV_CODES)
    for bits, (limit, m, e) in fixed.KV_CODES.items():
        assert stated[bits] == (limit, "none" if bits == 8 else f"({m}, {e})")
        assert m == round(127 / limit * 2**e)


def test_law_digest() -> None:
    assert f"\n    {tables.law_digest()}\n" in PAGE


def evaluate(call: str) -> str:
    """The result of `NAME(row; argument)` by the code, as the page writes it."""
    name, _, inside = call.rstrip(")").partition("(")
    values, *more = [[int(v) for v in part.split(",")] for part in inside.split(";")]
    one = [np.array([v], np.int64) for v in values]
    row = np.array([values], np.int64)
    if name == "NORMALIZE":
        got = fixed.normalize(row, more[0][0])
        return f"{', '.join(map(str, got[0][0].tolist()))}; s = {got[1].item()}"
    if name == "QUANT":
        codes, scale = fixed.quantize(row)
        return f"{', '.join(map(str, codes[0].tolist()))}; ({scale.m[0]}, {scale.e[0]})"
    if name == "PRODUCT":
        product = fixed.multiply_scales(fixed.Scale(*one[:2]), fixed.Scale(*one[2:]))
        return f"({product.m[0]}, {product.e[0]})"
    if name == "RSQRT":
        root = fixed.rsqrt(one[0])
        return f"({root.m[0]}, {root.e[0]})"
    functions = {
        "RSHIFT": fixed.rshift,
        "MULSH": fixed.mulsh,
        "EXP2": fixed.exp2_negative,
        "SIGMOID": fixed.sigmoid,
    }
    return str(functions[name](*one)[0])


@pytest.mark.parametrize(("call", "result"), EXAMPLES)
def test_examples(call: str, result: str) -> None:
    assert evaluate(call) == result


def test_bounds_of_the_page() -> None:
    most = ops.MAX_INPUTS
    assert 127**2 * most < 2**31 <= 127**2 * (most + 1)
    assert ops.headroom(66572) == 0 < ops.headroom(33000)
    assert 127**2 * 66572 < 2**30 <= 127**2 * 66573
    assert 32512 * ops.LONG_CONTEXT < 2**32
    assert 127 * (2**24 + 2**16) == 2139029504 < 2**31
    assert 127**2 * 1040 < 2**24 <= 127**2 * 1041
    # y of a projection at the widest row and the least shift.
    assert (2**31 - 1) * 65535 // 2**weights.MIN_ROW_SHIFT < 2**31 - 2**15 + 1
    assert 127 * 2**24 // 65535 == 32512
    assert 127 * 2**24 // 32768 == 65024
    # S: squares and eps.
    assert 2**28 * weights.LIMITS["d_model"] + weights.MAX_EPS < 2**49


Range = tuple[int, int]


def plus(*ranges: Range) -> Range:
    return sum(low for low, _ in ranges), sum(high for _, high in ranges)


def minus(a: Range) -> Range:
    return -a[1], -a[0]


def test_no_exponent_and_no_shift_leaves_its_width() -> None:
    # Every e of section 3 at its worst: all exponents of the graph at their limits at once.
    free = (-weights.MAX_EXPONENT, weights.MAX_EXPONENT)
    coded, product, lift = (-15, 15), (-17, -15), (0, 16)
    root = (31 - 15, 31 + 9)  # S has 1 to 49 bits

    def shift(bits: int, longest: int) -> Range:
        return 1 - bits, longest - bits

    token = plus(coded, root, product, (-17, -17), minus(shift(30, 32)), free, (0, 18))
    key = plus(coded, minus(shift(14, 31)), token, product, free)
    query = plus(key, free, product)
    value = plus(coded, token, product, free)
    score_shift = plus(key, query, lift, (-32, -32))
    fold_shift = plus((16, 16), value, minus(value))
    back = plus(coded, value, free, minus(free))
    hidden = plus(coded, token, product, free, (15, 15), minus(shift(15, 31)), minus(shift(15, 31)))
    down = plus(hidden, free, minus(free))
    for low, high in (token, key, query, value, score_shift, fold_shift, back, hidden, down):
        assert -(2**13) < low < high < 2**13


def test_references_to_files_exist() -> None:
    root = Path(__file__).resolve().parents[2]
    for name in re.findall(r"`((?:src|tests)/[^`]+\.py)`", PAGE):
        assert (root / name).is_file(), name
