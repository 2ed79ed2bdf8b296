"""The scan in C++ equals NumPy in every number, and vectors are those of the page."""

from __future__ import annotations

import numpy as np
import pytest

from sevenfold.agent.memory import scan
from sevenfold.agent.memory.embed import (
    BUCKETS,
    HALF,
    WIDTH,
    HashedEmbedder,
    learn_table,
    log2_sixteenths,
)
from sevenfold.agent.memory.features import NAME_BIT, query_features, span_features
from sevenfold.agent.memory.native import library

needs_library = pytest.mark.skipif(library() is None, reason="native/memory is not built")
TEXT = b"def read_table(path):\n    return open_file(path).rows()\n"


@needs_library
@pytest.mark.parametrize("isa", range(len(scan.INSTRUCTION_SETS)), ids=scan.INSTRUCTION_SETS)
@pytest.mark.parametrize("width", [1, 31, 32, 33, 64, 100, 1000, WIDTH])
def test_every_instruction_set_equals_numpy(isa: int, width: int) -> None:
    rng = np.random.default_rng(width)
    rows = rng.integers(-127, 128, (67, width)).astype(np.int8)
    rows[0], rows[1] = 127, -127
    for query in (rows[0], rows[1], rows[5]):
        wanted = (rows.astype(np.int64) * query.astype(np.int64)).sum(1)
        assert np.array_equal(scan.dots(rows, query, isa=isa), wanted)
        assert np.array_equal(scan.numpy_dots(rows, query), wanted)
        changed = query.copy()
        changed[0] -= 1 if changed[0] > 0 else -1
        assert not np.array_equal(scan.dots(rows, changed, isa=isa), wanted)


def test_rows_that_are_not_contiguous() -> None:
    rows = np.arange(-60, 60, dtype=np.int8).reshape(10, 12)[:, ::2]
    assert np.array_equal(scan.dots(rows, rows[0]), scan.numpy_dots(rows, rows[0]))
    assert len(scan.dots(np.zeros((0, 8), np.int8), np.ones(8, np.int8))) == 0


def test_logarithms_are_exact() -> None:
    assert [log2_sixteenths(2**n) for n in range(20)] == [16 * n for n in range(20)]
    assert log2_sixteenths(3) == 25
    assert all(log2_sixteenths(n) <= log2_sixteenths(n + 1) for n in range(1, 2000))


def test_the_table_is_rarer_for_rarer_features() -> None:
    table = learn_table([{1: 1, 2: 1}, {1: 1}, {1: 1}, {1: 1, 3: 1}])
    assert table.shape == (BUCKETS,)
    assert table[1] < table[2] == table[3] < table[4] == 255


@pytest.fixture
def embedder() -> HashedEmbedder:
    return HashedEmbedder(np.full(BUCKETS, 100, np.uint8))


def test_a_vector_by_hand(embedder: HashedEmbedder) -> None:
    """One word: 16 places of the first half, each 2^10 / 4 before the clip; written again here."""
    word, name = 12345, NAME_BIT + 999
    codes = embedder.spans([{word: 3}, {name: 2}])

    def mix(value: int, i: int) -> int:
        mask = (1 << 64) - 1
        z = (value + (i + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
        return z ^ z >> 31

    for row, one, half in ((codes[0], word, 0), (codes[1], name, HALF)):
        sums = np.zeros(WIDTH, np.int64)
        for i in range(16):
            sums[half + (mix(one, i) >> 54)] += 1 - 2 * (mix(one, i) & 1)
        assert np.array_equal(row, np.sign(sums) * 127)
    assert not codes[0, HALF:].any()


def test_vectors_do_not_depend_on_their_batch(embedder: HashedEmbedder) -> None:
    features = [span_features(TEXT * n) for n in range(1, 6)]
    together = embedder.spans(features)
    assert np.array_equal(together, np.concatenate([embedder.spans([one]) for one in features]))
    assert not embedder.spans([{}]).any()
    assert np.abs(together.astype(int)).max() <= 127
    assert np.abs(embedder.query(query_features(b"where is `read_table` defined?")).astype(int)).max() == 127


def test_extreme_weights_stay_in_range(embedder: HashedEmbedder) -> None:
    text = b" ".join(b"name_%d_%d(" % (i, i * i) for i in range(3000))
    codes = embedder.spans([span_features(text, (b"a_b",) * 50, b"x/y")])
    assert np.abs(codes.astype(int)).max() <= 127
