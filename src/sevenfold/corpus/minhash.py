"""Find near duplicates: clusters of documents whose shingle sets have a verified Jaccard similarity
of at least the threshold.

MinHash is that of rensa (pinned; 125 permutations, fixed seed). Signatures are cut into 25 bands of
5 values. Documents that share a band are candidates; a pair of similarity 0.8 is missed with a
probability of 5e-5. Candidates are verified on the sets themselves. Bands are on disk and are
sorted one after the other. This takes 16 bytes for each document instead of an index of signatures
in memory, and the result does not depend on the order of insertion. Leskovec, Rajaraman, Ullman:
Mining of Massive Datasets, chapter 3.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sevenfold.core.process.modules import require_module
from sevenfold.corpus.text.ngrams import jaccard, mix

N_BANDS, N_ROWS = 25, 5
SEED = 7
# Pairs remembered as not similar; they take about 40 MB.
MAX_DIFFERENT = 1 << 18
# Bytes of shingle sets held while candidates are verified.
CACHE_BYTES = 64 << 20
_ODD = np.uint64(0x9E3779B97F4A7C15)

# Legend: D documents of a shard, N documents of the corpus, B bands.


def bands(sets: list[np.ndarray]) -> np.ndarray:
    """Return u64[B, D]: the band keys of documents, given as ascending sets of shingle hashes
    (u64).
    """
    sketch = require_module("rensa").RMinHash
    ends = np.cumsum([0, *map(len, sets)]).astype(np.uint64)
    flat = np.concatenate(sets) if sets else np.empty(0, np.uint64)
    matrix = sketch.digest_matrix_from_flat_token_hashes(flat, ends, N_BANDS * N_ROWS, SEED)
    values = np.array(matrix.to_rows(), np.uint64).reshape(len(sets), N_BANDS, N_ROWS)
    keys = np.zeros((len(sets), N_BANDS), np.uint64)
    for row in range(N_ROWS):
        keys *= _ODD
        keys += values[:, :, row]
    return np.ascontiguousarray(mix(keys).T)


class Clusters:
    """Union-find over N documents. The number of a cluster is its smallest member."""

    def __init__(self, n: int) -> None:
        self._parent = np.arange(n)

    def find(self, item: int) -> int:
        """Return the number of the cluster of an item."""
        parent: Any = self._parent
        while parent[item] != item:
            parent[item] = item = parent[parent[item]]
        return int(item)

    def join(self, a: int, b: int) -> None:
        """Join the clusters of two items."""
        low, high = sorted((self.find(a), self.find(b)))
        self._parent[high] = low

    def labels(self) -> np.ndarray:
        """Return int64[N]: the cluster of each item."""
        labels = self._parent
        while True:
            shorter = labels[labels]
            if (shorter == labels).all():
                return labels
            labels = shorter


def runs(keys: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the positions (ascending) of each value that occurs more than once in `keys`."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    same = np.zeros(len(keys) + 1, bool)
    same[1:-1] = ordered[1:] == ordered[:-1]
    starts = np.flatnonzero(same[1:] & ~same[:-1])
    ends = np.flatnonzero(~same[1:] & same[:-1]) + 1
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        yield order[start:end]


class Verifier:
    """Computes the exact similarity of two documents. It keeps recent sets: at most CACHE_BYTES of
    them, and at least two.
    """

    def __init__(self, shingles_of: Callable[[int], np.ndarray], threshold: float) -> None:
        self._shingles_of, self._threshold = shingles_of, threshold
        self._recent: OrderedDict[int, np.ndarray] = OrderedDict()
        self._n_bytes = 0
        self._different: set[tuple[int, int]] = set()
        self.n_verified = 0

    def similar(self, a: int, b: int) -> bool:
        """Return whether the Jaccard similarity of two documents reaches the threshold."""
        # A pair that shares one band often shares others.
        if (a, b) in self._different:
            return False
        self.n_verified += 1
        first, second = self._set(a), self._set(b)
        few, many = sorted((len(first), len(second)))
        if few >= self._threshold * many and jaccard(first, second) >= self._threshold:
            return True
        if len(self._different) >= MAX_DIFFERENT:
            self._different.clear()
        self._different.add((a, b))
        return False

    def _set(self, item: int) -> np.ndarray:
        found = self._recent.pop(item, None)
        if found is None:
            found = self._shingles_of(item)
            self._n_bytes += found.nbytes
        self._recent[item] = found
        while self._n_bytes > CACHE_BYTES and len(self._recent) > 2:
            self._n_bytes -= self._recent.popitem(last=False)[1].nbytes
        return found


def clusters(bands_N: Iterator[np.ndarray], n: int, verifier: Verifier) -> np.ndarray:  # noqa: N803 - shape
    """Return int64[N]: the cluster of each document. Documents are numbered in an order that does
    not depend on the order of files.

    In a run of candidates, each document is compared with the first member of every cluster found
    in the run so far. Pairs that are in one cluster are not compared again. The same numbering
    gives the same clusters.
    """
    found = Clusters(n)
    for keys in bands_N:
        for run in runs(keys):
            leaders: list[int] = []
            for item in run.tolist():
                for leader in leaders:
                    if found.find(item) == found.find(leader) or verifier.similar(item, leader):
                        found.join(item, leader)
                        break
                else:
                    leaders.append(item)
    return found.labels()
