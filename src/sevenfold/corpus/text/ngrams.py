"""Hash the words and shingles of a text to 64 bits: about 100 MB/s on one core in NumPy, five times
that in C++ (native/corpus).

A word is a run of ASCII letters, digits, underscores and bytes above 0x7f, with ASCII letters in
lower case. Everything else separates words. Neither layout nor punctuation therefore changes a
shingle, which is a run of n words. Sets of hashes stand for sets of shingles: among a million
shingles, two collide with a probability of 3e-8.

    word hash   mix(sum of byte[i] * P**i  *  P**-start)   modulo 2**64, P odd:
                one running sum serves all words
    shingle     mix(sum of word[j] * Q**j)
"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np

from sevenfold.corpus.native import checked, library

_P, _Q = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95
# Bytes hashed at a time. Tables of powers have this length.
_BLOCK = 1 << 16
_MASK = (1 << 64) - 1


def _powers(base: int) -> np.ndarray:
    values, value = [], 1
    for _ in range(_BLOCK):
        values.append(value)
        value = value * base & _MASK
    return np.array(values, np.uint64)


@cache
def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return is_word bool[256] and value u64[256] by byte, and P**i and P**-i, u64[_BLOCK]."""
    codes = np.arange(256)
    letters = (codes >= ord("a")) & (codes <= ord("z")) | (codes >= ord("A")) & (codes <= ord("Z"))
    is_word = letters | (codes >= ord("0")) & (codes <= ord("9")) | (codes == ord("_")) | (codes >= 128)
    value = np.where(letters, codes | 0x20, codes).astype(np.uint64) + np.uint64(1)
    return is_word, value, _powers(_P), _powers(pow(_P, -1, 1 << 64))


def mix(hashes: np.ndarray) -> np.ndarray:
    """Spread u64 values over all bits, in place (the finaliser of SplitMix64)."""
    hashes ^= hashes >> np.uint64(30)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(27)
    hashes *= np.uint64(0x94D049BB133111EB)
    hashes ^= hashes >> np.uint64(31)
    return hashes


def word_hashes(data: bytes) -> np.ndarray:
    """Return u64[W]: hash of each word of UTF-8 bytes, in order."""
    fast = library()
    if fast is None:
        return word_hashes_in_numpy(data)
    words = np.empty(len(data) // 2 + len(data) // _BLOCK + 1, np.uint64)
    return words[: fast.s7_words(data, len(data), _BLOCK, words.ctypes.data)]


def word_hashes_in_numpy(data: bytes) -> np.ndarray:
    """Return the result of `word_hashes`, where the library is not built."""
    blocks = []
    start = 0
    while start < len(data):
        stop = min(start + _BLOCK, len(data))
        if stop < len(data):
            stop = _word_end(data, start, stop)
        blocks.append(_block_hashes(np.frombuffer(data, np.uint8, stop - start, start)))
        start = stop
    return np.concatenate(blocks) if blocks else np.empty(0, np.uint64)


def _word_end(data: bytes, start: int, stop: int) -> int:
    """Return a position at or below `stop` after a separator, where the text may be cut.

    A word as long as a block is cut at the end of the block.
    """
    is_word = _tables()[0]
    for place in range(stop, start, -1):
        if not is_word[data[place - 1]]:
            return place
    return stop


def _block_hashes(codes: np.ndarray) -> np.ndarray:
    is_word, value, powers, inverses = _tables()
    inside = np.zeros(len(codes) + 2, np.int8)
    inside[1:-1] = is_word[codes]
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return np.empty(0, np.uint64)
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(value[codes] * powers[: len(codes)], out=sums[1:])
    return mix((sums[ends] - sums[starts]) * inverses[starts])


def ngram_hashes(words: np.ndarray, n: int) -> np.ndarray:
    """Return u64[max(W - n + 1, 0)]: the hash of every run of n words, in order, with repeats."""
    n_runs = len(words) - n + 1
    if n_runs <= 0:
        return np.empty(0, np.uint64)
    fast = library()
    if fast is None:
        return ngram_hashes_in_numpy(words, n)
    hashes = np.empty(n_runs, np.uint64)
    fast.s7_runs(words.ctypes.data, len(words), n, hashes.ctypes.data)
    return hashes


def ngram_hashes_in_numpy(words: np.ndarray, n: int) -> np.ndarray:
    """Return the result of `ngram_hashes` for at least n words, where the library is not built."""
    n_runs = len(words) - n + 1
    sums = np.zeros(n_runs, np.uint64)
    for j in range(n):
        sums *= np.uint64(_Q)
        sums += words[j : j + n_runs]
    return mix(sums)


class RunHashes:
    """Computes `ngram_hashes` for any runs of the words of a text, of any lengths, from sums that
    are computed once.

    Args:
        words: u64[W], hashes of the words.
    """

    def __init__(self, words: np.ndarray) -> None:
        self._powers, inverses = _run_powers(1 << max(10, len(words).bit_length()))
        self._sums = np.zeros(len(words) + 1, np.uint64)
        np.cumsum(words * inverses[: len(words)], out=self._sums[1:])

    def hashes(self, first: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return u64[R]: the hash of the words from `first` to before `ends` of each run (i64[R]
        both).
        """
        return mix((self._sums[ends] - self._sums[first]) * self._powers[ends - 1])


@lru_cache(maxsize=4)
def _run_powers(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return Q**i and Q**-i, u64[n]."""
    return _powers_of(_Q, n), _powers_of(pow(_Q, -1, 1 << 64), n)


def _powers_of(base: int, n: int) -> np.ndarray:
    steps = np.full(n, base, np.uint64)
    steps[0] = 1
    return np.cumprod(steps)


class Sorted:
    """A set of hashes with a table of bits that excludes most other hashes at once.

    Args:
        hashes: u64[H], ascending; a hash may occur more than once.
    """

    BITS = 20

    def __init__(self, hashes: np.ndarray) -> None:
        self.hashes = np.ascontiguousarray(hashes, np.uint64)
        self._shift = np.uint64(64 - self.BITS)
        self._marks = np.zeros(1 << self.BITS, bool)
        self._marks[hashes >> self._shift] = True
        self._bits = np.packbits(self._marks, bitorder="little").tobytes()

    def find(self, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (i64[F], i64[F]): which of the given hashes are in the set, ascending, and the
        first position of each.
        """
        fast = library()
        if fast is None:
            return self._find_in_numpy(asked)
        found, places = np.empty((2, len(asked)), np.int64)
        n = fast.s7_find_sorted(
            self.hashes.ctypes.data, len(self.hashes), self._bits, self.BITS,
            asked.ctypes.data, len(asked), found.ctypes.data, places.ctypes.data,
        )  # fmt: skip
        return found[:n], places[:n]

    def _find_in_numpy(self, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        likely = np.flatnonzero(self._marks[asked >> self._shift])
        values = asked[likely]
        places = np.searchsorted(self.hashes, values)
        held = self.hashes[np.minimum(places, len(self.hashes) - 1)] == values
        return likely[held], places[held]


class Filter:
    """Tells which hashes a set may have, from two numbers of BITS bits of each hash. It reads few
    bytes for a hash outside the set.
    """

    BITS = 24

    def __init__(self, hashes: np.ndarray) -> None:
        marks = np.zeros((2, 1 << self.BITS), bool)
        for table, places in zip(marks, self._places(hashes), strict=True):
            table[places] = True
        self._bits = np.packbits(marks, axis=1, bitorder="little").tobytes()

    def _places(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the highest bits, and those below them."""
        shift, kept = np.uint64(64 - self.BITS), np.uint64(self.BITS)
        return hashes >> shift, hashes << kept >> shift

    def likely(self, words: np.ndarray, n: int) -> np.ndarray:
        """Return u64, ascending, each once: the runs of n words that the set may contain."""
        fast = library()
        if fast is None or len(words) < n:
            return unique(self._likely_in_numpy(ngram_hashes(words, n)))
        found = np.empty(len(words) - n + 1, np.uint64)
        n_found = fast.s7_likely_runs(
            words.ctypes.data, len(words), n, self._bits, self.BITS, found.ctypes.data
        )
        return unique(found[:n_found])

    def _likely_in_numpy(self, hashes: np.ndarray) -> np.ndarray:
        tables = np.frombuffer(self._bits, np.uint8).reshape(2, -1)
        is_likely = np.ones(len(hashes), bool)
        for octets, places in zip(tables, self._places(hashes), strict=True):
            is_likely &= (
                octets[places >> np.uint64(3)] >> (places & np.uint64(7)).astype(np.uint8) & 1
            ).astype(bool)
        return hashes[is_likely]


def unique(hashes: np.ndarray) -> np.ndarray:
    """Return the values ascending, each once. np.unique hashes them again and takes 100 times as
    long.
    """
    ordered = np.sort(hashes)
    first = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


def n_different(hashes: np.ndarray) -> int:
    """Return how many of the hashes (u64, contiguous) are different."""
    fast = library()
    if fast is None:
        return len(unique(hashes))
    return checked(fast.s7_n_different(hashes.ctypes.data, len(hashes)))


def shingle_set(data: bytes, n: int) -> np.ndarray:
    """Return u64[S], ascending: the set of n-word shingles.

    A text of fewer words is one shingle of all its words.
    """
    words = word_hashes(data)
    return unique(ngram_hashes(words, max(1, min(n, len(words)))))


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Return the size of the intersection over the size of the union of two sets; two empty sets
    are equal.
    """
    if not len(a) and not len(b):
        return 1.0
    both = np.sort(np.concatenate((a, b)))
    n_common = int(np.count_nonzero(both[1:] == both[:-1]))
    return n_common / (len(a) + len(b) - n_common)
