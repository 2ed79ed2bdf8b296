"""Compute INT8 vectors of features by a hashed projection, weighted by the rarity of each feature.

A vector has two halves of 1,024 places, for words and for whole names. Every feature adds its
signed weight to 16 places of its half, which its hash determines. The table of rarity is learned
once from the first texts of a memory by integer statistics, and is part of its root. Each half is
divided by its length with the reciprocal square root of specs/arithmetic.md. A text therefore has
the same vector on every machine. See specs/memory.md, "Vectors".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sevenfold.agent.memory.features import Weights
from sevenfold.core.numbers.fixed import CODE_MAX, Ints, quantize, rshift, rsqrt

HALF = 1024
WIDTH = 2 * HALF
N_PLACES = 16
BUCKETS = 1 << 18
# Each half has this length before it is rounded and clipped.
LENGTH_BITS = 10
MAX_RARITY = 255
# The rarity of a feature that is not in the table.
UNSEEN = 255

Codes = NDArray[np.int8]
Table = NDArray[np.uint8]


def log2_sixteenths(value: int) -> int:
    """Return floor(16 * log2(value)) of a positive integer, exactly."""
    return int(value**16).bit_length() - 1


def bucket(feature: int) -> int:
    """Return the place of a feature in the table."""
    return feature & (BUCKETS - 1)


def learn_table(spans: Iterable[Weights]) -> Table:
    """Return the table of rarity: 16 * log2(spans / spans with the feature), from 1 to 255."""
    counts = np.zeros(BUCKETS, np.int64)
    n = 0
    for weights in spans:
        n += 1
        found = np.fromiter(weights, np.uint64, len(weights)) & np.uint64(BUCKETS - 1)
        counts[np.unique(found.astype(np.int64))] += 1
    total = log2_sixteenths(n + 1)
    distinct, places = np.unique(counts, return_inverse=True)
    values = [
        UNSEEN if c == 0 else min(max(total - log2_sixteenths(int(c)), 1), MAX_RARITY) for c in distinct
    ]
    return np.array(values, np.uint8)[places]


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return u64 [n, N_PLACES]: the outputs of SplitMix64 with each hash as its seed."""
    steps = np.arange(1, N_PLACES + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = hashes[:, None] + steps
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed


@dataclass(frozen=True)
class HashedEmbedder:
    """The embedder of a memory with a table of rarity: u8 [BUCKETS]."""

    table: Table
    name: str = "hashed-1"
    width: int = WIDTH

    def _sums(self, features: Sequence[Weights]) -> Ints:
        """Return the sums before they are scaled, i64 [n, WIDTH]."""
        sizes = np.fromiter(map(len, features), np.int64, len(features))
        n = int(sizes.sum())
        hashes = np.fromiter((one for weights in features for one in weights), np.uint64, n)
        values = np.fromiter((v for weights in features for v in weights.values()), np.int64, n)
        rare = self.table[(hashes & np.uint64(BUCKETS - 1)).astype(np.int64)].astype(np.int64)
        values = values * rare
        mixed = _mixed(hashes)
        halves = (hashes >> np.uint64(63)).astype(np.int64)[:, None] * HALF
        places = (mixed >> np.uint64(54)).astype(np.int64) + halves
        signs = 1 - 2 * (mixed & np.uint64(1)).astype(np.int64)
        rows = np.repeat(np.arange(len(features), dtype=np.int64), sizes)
        sums = np.zeros(len(features) * WIDTH, np.int64)
        np.add.at(sums, (rows[:, None] * WIDTH + places).ravel(), (signs * values[:, None]).ravel())
        return sums.reshape(len(features), WIDTH)

    def spans(self, features: Sequence[Weights]) -> Codes:
        """Return i8 [n, WIDTH]: round(sum * 2^10 / length), clipped to 127."""
        sums = self._sums(features).reshape(len(features), 2, HALF)
        root = rsqrt(np.maximum((sums * sums).sum(-1), 1))
        scaled = rshift(sums * root.m[..., None], (root.e - LENGTH_BITS)[..., None])
        codes: Codes = np.clip(scaled, -CODE_MAX, CODE_MAX).astype(np.int8)
        return codes.reshape(len(features), WIDTH)

    def query(self, features: Weights) -> Codes:
        """Return i8 [WIDTH] by QUANT of specs/arithmetic.md."""
        codes, _ = quantize(self._sums([features]))
        row: Codes = codes[0].astype(np.int8)
        return row

    def rarity(self, features: Iterable[int]) -> list[int]:
        """Return the entries of the table."""
        return [int(self.table[bucket(one)]) for one in features]
