"""Tables of the law: the same entries everywhere, and close to the functions they stand for."""

from __future__ import annotations

import hashlib
import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold.core.numbers import tables

DIGESTS = {  # SHA-256 of the entries as big-endian int64; also in specs/arithmetic.md
    "exp2": "dad500ed4f3f7311bf2bb09dfb74c86c6f2abceb51402b1c27036198442b4f0e",
    "sigmoid": "37effc8957a8ef78e22a7bd0d77cb1baed879878c95fa53cffa53b8f7472120e",
    "rsqrt": "b6c9a604acf5e7a7939f042e9362ebcf2eee056a3d37ac6ae8b01986fa90640e",
}


@pytest.mark.parametrize("name", DIGESTS)
def test_golden_digests(name: str) -> None:
    table = getattr(tables, name)()
    assert hashlib.sha256(table.astype(">i8").tobytes()).hexdigest() == DIGESTS[name]


def test_law_digest_is_over_the_three_tables() -> None:
    hasher = hashlib.sha256()
    parts = [b"sevenfold/tables/1"]
    parts += [getattr(tables, name)().astype(">i8").tobytes() for name in ("exp2", "sigmoid", "rsqrt")]
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big") + part)
    assert (
        tables.law_digest()
        == hasher.hexdigest()
        == "73b2f7e5119f5e12147830809a71d9a742e9bc629468a6706a7d9f1af7ea0117"
    )


def test_exp2() -> None:
    table = tables.exp2()
    assert table.shape == (65,)
    assert (table[0], table[64]) == (32512, 16256)
    assert (np.diff(table) < 0).all()
    assert np.abs(table - 32512 * np.exp2(-np.arange(65) / 64)).max() <= 0.5 + 1e-9


def test_sigmoid() -> None:
    table = tables.sigmoid()
    assert table.shape == (513,)
    assert (table[0], table[512]) == (16384, 32768)
    assert (np.diff(table) >= 0).all()
    assert np.abs(table - 32768 / (1 + np.exp(-np.arange(513) / 32))).max() <= 0.5 + 1e-9


def test_rsqrt() -> None:
    table = tables.rsqrt()
    assert table.shape == (192,)
    assert table.max() < 2**16
    assert table.min() > 2**15
    assert (np.diff(table) < 0).all()
    assert np.abs(table - 2**16 / np.sqrt((np.arange(192) + 64.5) / 64)).max() <= 0.5 + 1e-9


# RoPE.


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([2, 4, 6, 64]), st.floats(1.5, 1e6), st.integers(1, 300))
def test_rope_is_within_one_unit_of_double_precision(head_dim: int, theta: float, context: int) -> None:
    table = tables.rope(tables.rope_frequencies(head_dim, theta), context)
    assert table.dtype == np.int16
    assert table.shape == (context, head_dim // 2, 2)
    angle = np.arange(context)[:, None] * theta ** (-2 * np.arange(head_dim // 2) / head_dim)
    exact = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * 32768
    assert np.abs(table - np.minimum(exact, 32767)).max() <= 0.5 + 1e-6


def test_rope_far_out_keeps_its_precision() -> None:
    # The recurrence does not drift: the last rows of a long table are as exact as the first.
    context = 1 << 15
    frequency = Decimal("0.73")
    table = tables.rope([frequency], context)
    for position in (context - 1, context - 2, context // 2):
        angle = float(frequency * position % Decimal("6.283185307179586476925286766559005768394"))
        assert abs(table[position, 0, 0] - math.cos(angle) * 32768) <= 0.5 + 1e-6
        assert abs(table[position, 0, 1] - math.sin(angle) * 32768) <= 0.5 + 1e-6


def test_rope_starts_with_the_identity_clamped_to_i16() -> None:
    table = tables.rope(tables.rope_frequencies(8, 10000.0), 1)
    assert table[0].tolist() == [[32767, 0]] * 4


def test_longer_tables_begin_with_shorter_ones() -> None:
    frequencies = tables.rope_frequencies(16, 10000.0)
    assert np.array_equal(tables.rope(frequencies, 50)[:20], tables.rope(frequencies, 20))


def test_frequencies() -> None:
    plain = tables.rope_frequencies(8, 10000.0)
    assert [float(f) for f in plain] == pytest.approx([1.0, 0.1, 0.01, 0.001])
    linear = tables.rope_frequencies(8, 10000.0, "linear", 4.0)
    assert [float(f) for f in linear] == pytest.approx([0.25, 0.025, 0.0025, 0.00025])
    # ntk keeps the fastest pair and slows the slowest by the factor.
    ntk = tables.rope_frequencies(8, 10000.0, "ntk", 4.0)
    assert float(ntk[0]) == 1.0
    assert float(ntk[-1]) == pytest.approx(0.001 / 4.0)
    assert [float(f) for f in ntk] == pytest.approx(
        [(10000 * 4 ** (8 / 6)) ** (-2 * i / 8) for i in range(4)]
    )


def test_a_factor_of_one_changes_nothing() -> None:
    plain = tables.rope_frequencies(8, 500.0)
    assert tables.rope_frequencies(8, 500.0, "linear", 1.0) == plain
    assert tables.rope_frequencies(8, 500.0, "ntk", 1.0) == plain


@pytest.mark.parametrize("kind", ["yarn", "", "NTK"])
def test_scaling_without_a_definition(kind: str) -> None:
    with pytest.raises(ValueError, match=f"rope scaling '{kind}' is not defined"):
        tables.rope_frequencies(8, 10000.0, kind, 2.0)


def test_ntk_has_no_meaning_for_heads_of_two() -> None:
    with pytest.raises(ValueError, match="wider than 2"):
        tables.rope_frequencies(2, 10000.0, "ntk", 2.0)
