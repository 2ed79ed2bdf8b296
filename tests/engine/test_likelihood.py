"""Log-probabilities in integers: against exact decimals, a second text of the law, and by batch."""

from __future__ import annotations

import re
from decimal import Context, Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.engine import likelihood
from sevenfold.engine.likelihood import as_float, log_probabilities, most_likely

SPEC = Path(__file__).resolve().parents[2] / "specs" / "likelihood.md"
logits = st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=40)
near = st.lists(st.integers(-(2**21), 2**21), min_size=1, max_size=40)


def exact(row: list[int], token: int) -> Decimal:
    """The real log-probability, with 60 digits."""
    with localcontext(Context(prec=60)):
        top = max(row)
        total = sum((Decimal(value - top) / 65536).exp() for value in row)
        return Decimal(row[token] - top) / 65536 - total.ln()


def by_the_page(row: list[int], token: int) -> int:
    """Section by section, in Python's integers: shares no code with the module."""
    with localcontext(Context(prec=50)):
        ln2 = Decimal(2).ln()
        log2_e, half = int(Decimal(2**40) / ln2 + Decimal("0.5")), Decimal("0.5")
        ln2_32, top, total = int(ln2 * 2**32 + half), max(row), 0
        for value in row:
            distance = (min(top - value, 40 * 2**16) * log2_e + 2**23) // 2**24
            whole, i, rest = min(distance // 2**32, 62), distance // 2**22 % 2**10, distance % 2**22
            x = (rest * ln2_32 + 2**31) // 2**32
            factor = 2**22 - (x - x * x // 2**33 + 2**9) // 2**10
            entry = int(Decimal(2**40) * (-ln2 * i / 1024).exp() + half)
            scaled = (entry * factor + 2**21) // 2**22
            total += (scaled + 2**whole // 2) // 2**whole
        ln = (Decimal(total) / 2**40).ln() * 2**32
        # Half up: floor of the value and one half.
        lse = int((ln + half).to_integral_value("ROUND_FLOOR"))
        return -(top - row[token]) * 2**16 - lse


def one(row: list[int], token: int) -> int:
    return int(log_probabilities(np.array([row], np.int64), np.array([[token]], np.int64))[0, 0])


@given(logits | near, st.data())
def test_it_is_the_law_of_the_page(row: list[int], data: st.DataObject) -> None:
    token = data.draw(st.integers(0, len(row) - 1))
    assert one(row, token) == by_the_page(row, token)


@given(near, st.data())
def test_it_is_close_to_the_real_value(row: list[int], data: st.DataObject) -> None:
    token = data.draw(st.integers(0, len(row) - 1))
    assert abs(Decimal(one(row, token)) / 2**32 - exact(row, token)) < Decimal(2) ** -22


def test_a_row_does_not_depend_on_its_batch() -> None:
    rng = np.random.default_rng(5)
    rows = rng.integers(-(2**19), 2**19, (20, 300))
    ids = rng.integers(0, 300, (20, 4))
    at_once = log_probabilities(rows, ids)
    for index in range(20):
        alone = log_probabilities(rows[index : index + 1], ids[index : index + 1])
        assert np.array_equal(alone[0], at_once[index])


@pytest.mark.parametrize("row", [[0], [2**31 - 1, -(2**31)], [-(2**31)] * 3, [0, -(40 << 16) - 1]])
def test_extremes_fit(row: list[int]) -> None:
    assert one(row, 0) == by_the_page(row, 0) <= 0
    assert one(row, len(row) - 1) == by_the_page(row, len(row) - 1)


def test_equal_logits_share_equally_and_the_lower_id_is_first() -> None:
    row = np.array([[7, 9, 9, 7]], np.int64)
    assert most_likely(row, 3).tolist() == [[1, 2, 0]]
    halves = log_probabilities(np.array([[5, 5]], np.int64), np.array([[0, 1]], np.int64))[0].tolist()
    assert halves[0] == halves[1] == round(-np.log(2) * 2**32)
    assert as_float(halves[0]) == halves[0] / 2**32


def test_the_constants_stand_on_the_page() -> None:
    text = SPEC.read_text(encoding="utf-8")
    log2_e, ln2, table = likelihood._law()
    assert re.search(rf"`LOG2E` \|.*\| {log2_e} \|", text)
    assert re.search(rf"`LN2` \|.*\| {ln2} \|", text)
    assert f"first {table[0]}, last {table[-1]}" in text


def test_another_rounding_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    row = [3000 * i for i in range(30)]
    log2_e, ln2, table = likelihood._law()
    monkeypatch.setattr(likelihood, "_law", lambda: (log2_e + 2**24, ln2, table))
    assert one(row, 4) != by_the_page(row, 4)
