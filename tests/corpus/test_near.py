"""Shingles, MinHash and clusters against their definitions; perplexity against the formula."""

from __future__ import annotations

import math
import random
import re
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold.corpus import minhash
from sevenfold.corpus.steps.perplexity import UNITS, Trigrams, _log2_table, log2_units
from sevenfold.corpus.text import ngrams

GOLDEN_BANDS = [9548295127246863860, 16658610114705161157]


def words_of(data: bytes) -> list[bytes]:
    return [word.lower() for word in re.findall(rb"[A-Za-z0-9_\x80-\xff]+", data)]


def shingles_of(data: bytes, n: int) -> set[tuple[bytes, ...]]:
    words = words_of(data)
    n = max(1, min(n, len(words)))
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


@settings(max_examples=200)
@given(st.binary(max_size=300), st.integers(1, 6))
def test_hashes_stand_for_words_and_shingles(data: bytes, n: int) -> None:
    words, hashes = words_of(data), ngrams.word_hashes(data).tolist()
    assert len(words) == len(hashes)
    assert len(set(zip(words, hashes, strict=True))) == len(set(words)) == len(set(hashes))
    assert len(ngrams.shingle_set(data, n)) == len(shingles_of(data, n))


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(1)
    data = b" ".join(b"word%d" % rng.randrange(99) for _ in range(5000))
    whole = ngrams.word_hashes(data).tolist()
    for size in (7, 64, 1000):
        monkeypatch.setattr(ngrams, "_BLOCK", size)
        assert ngrams.word_hashes(data).tolist() == whole


def test_a_word_longer_than_a_block_is_cut_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "_BLOCK", 16)
    assert len(ngrams.word_hashes(b"x" * 40)) == 3


@settings(max_examples=100)
@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_jaccard(a: set[int], b: set[int]) -> None:
    first, second = (np.array(sorted(s), np.uint64) for s in (a, b))
    expected = len(a & b) / len(a | b) if a | b else 1.0
    assert ngrams.jaccard(first, second) == expected


def documents(n: int, seed: int = 3) -> list[bytes]:
    """Originals, and copies of them with some words changed: similarities from 0.3 to 1."""
    rng = random.Random(seed)
    found = []
    for _ in range(n):
        words = [b"w%d" % rng.randrange(2000) for _ in range(300)]
        found.append(b" ".join(words))
        for n_changes in (2, 8, 20, 60):
            copy = list(words)
            for _ in range(n_changes):
                copy[rng.randrange(300)] = b"v%d" % rng.randrange(2000)
            found.append(b" ".join(copy))
    return found


def cluster(texts: list[bytes], threshold: float = 0.8) -> tuple[np.ndarray, minhash.Verifier]:
    sets = [ngrams.shingle_set(text, 5) for text in texts]
    verifier = minhash.Verifier(lambda item: sets[item], threshold)
    return minhash.clusters(iter(minhash.bands(sets)), len(texts), verifier), verifier


def test_clusters_are_what_comparing_all_pairs_finds() -> None:
    texts = documents(40)
    labels, verifier = cluster(texts)
    sets = [shingles_of(text, 5) for text in texts]
    expected = minhash.Clusters(len(texts))
    for a, b in combinations(range(len(texts)), 2):
        if len(sets[a] & sets[b]) / len(sets[a] | sets[b]) >= 0.8:
            expected.join(a, b)
    assert labels.tolist() == expected.labels().tolist()
    assert verifier.n_verified < len(texts) * (len(texts) - 1) / 2 / 5
    kept = [i for i, label in enumerate(labels.tolist()) if i == label]
    assert max(len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in combinations(kept, 2)) < 0.8


def test_candidates_that_are_not_similar_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    # Canary: every document in one band. Only verification keeps them apart.
    texts = documents(5)
    sets = [ngrams.shingle_set(text, 5) for text in texts]
    verifier = minhash.Verifier(lambda item: sets[item], 0.8)
    labels = minhash.clusters(iter([np.zeros(len(texts), np.uint64)]), len(texts), verifier)
    assert labels.tolist() == cluster(texts)[0].tolist()
    everything = minhash.Verifier(lambda item: sets[item], 0.0)
    assert set(
        minhash.clusters(iter([np.zeros(len(texts), np.uint64)]), len(texts), everything).tolist()
    ) == {0}


def test_signatures_are_the_pinned_librarys() -> None:
    # Another version of rensa could give other candidates: its first band
    # keys are written down here.
    keys = minhash.bands([ngrams.shingle_set(b"the quick brown fox jumps over the lazy dog", 5)])
    assert keys.shape == (minhash.N_BANDS, 1)
    assert keys[:2, 0].tolist() == GOLDEN_BANDS


def test_an_empty_text_and_a_short_one() -> None:
    assert len(ngrams.shingle_set(b"", 5)) == 0
    assert len(ngrams.shingle_set(b"one two", 5)) == 1
    assert minhash.bands([]).shape == (minhash.N_BANDS, 0)
    labels, _ = cluster([b"one two", b"one, two", b"two one", b"", b"..."])
    assert labels.tolist() == [0, 0, 2, 3, 3]


def test_the_cache_of_sets_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minhash, "CACHE_BYTES", 100)
    read = []
    verifier = minhash.Verifier(lambda item: read.append(item) or np.arange(10, dtype=np.uint64) + item, 0.8)
    for item in range(5):
        verifier.similar(item, item + 1)
    assert len(verifier._recent) == 2
    assert read == [0, 1, 2, 3, 4, 5]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40))
def test_union_find_in_any_order(edges: list[tuple[int, int]]) -> None:
    both = []
    for order in (edges, edges[::-1]):
        found = minhash.Clusters(31)
        for a, b in order:
            found.join(a, b)
        both.append(found.labels().tolist())
    assert both[0] == both[1]
    assert all(both[0][a] == both[0][b] for a, b in edges)
    assert all(label <= item for item, label in enumerate(both[0]))


TABLE = _log2_table()


@settings(max_examples=300)
@given(st.integers(1, (1 << 61) - 1))
def test_logarithms_are_exact_integers(value: int) -> None:
    exact = (value**UNITS).bit_length() - 1
    assert exact - 1 <= int(log2_units(np.array([value]), TABLE)[0]) <= exact


def test_perplexity_is_the_formula() -> None:
    texts = [b"abracadabra", b"abba", b"", b"ab", b"cadabra abra"]
    model = Trigrams(texts)
    grams = [tuple(t[i : i + 3]) for t in texts for i in range(len(t) - 2)]

    def p(a: int, b: int, c: int) -> float:
        low = (256 * sum(g[1:] == (b, c) for g in grams) + 1) / (256 * sum(g[1] == b for g in grams) + 256)
        return (sum(g == (a, b, c) for g in grams) + 4 * low) / (sum(g[:2] == (a, b) for g in grams) + 4)

    for text in (b"abracadabra", b"xyz", b"abx"):
        expected = -sum(math.log2(p(*text[i : i + 3])) for i in range(len(text) - 2)) / (len(text) - 2)
        assert model.bits_per_byte(text) == pytest.approx(
            expected, abs=0.05
        )  # 16 bits of a small probability
    assert model.bits_per_byte(b"ab") == 0.0


def test_counting_does_not_depend_on_order_or_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [bytes([i % 7, i % 5, i % 3] * 20) for i in range(50)]
    scores = []
    for order, size in ((texts, 1 << 20), (texts[::-1], 64)):
        monkeypatch.setattr("sevenfold.corpus.steps.perplexity._BATCH_BYTES", size)
        scores.append([Trigrams(order).bits_per_byte(text) for text in texts[:3]])
    assert scores[0] == scores[1]
    assert all(a <= b for a, b in pairwise(sorted(scores[0])))
