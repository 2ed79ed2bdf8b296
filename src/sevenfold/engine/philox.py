"""Philox4x32-10, a counter-based generator of random words (specs/sampling.md, section 2).

Source: Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011). A
word depends only on a key and a counter. No state passes from draw to draw, and the words of a
sequence are the same in any batch and on any backend.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.numbers.fixed import Ints, as_ints

N_ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
# Added to the key after each round: the fractions of the golden ratio and of the square root of
# three.
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF

Words = NDArray[np.uint64]


def philox(counter_C4: Ints, key: tuple[int, int] | tuple[Words, Words]) -> Ints:
    """Return four random words for each counter.

    Args:
        counter_C4: [C, 4], words of 32 bits.
        key: two words of 32 bits, of all counters or [C] of each.

    Returns:
        [C, 4], int64 in 0 .. 2^32 - 1.
    """
    # A product of two words fits 64 unsigned bits, so nothing wraps except where the definition
    # cuts it.
    words = np.asarray(counter_C4, np.uint64)
    c0, c1, c2, c3 = (words[:, i] for i in range(4))
    k0, k1 = (np.asarray(word, np.uint64) for word in key)
    steps = [np.uint64(step) for step in KEY_STEPS]
    for _ in range(N_ROUNDS):
        low0, low1 = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (low1 >> np.uint64(32)) ^ c1 ^ k0,
            low1 & np.uint64(WORD),
            (low0 >> np.uint64(32)) ^ c3 ^ k1,
            low0 & np.uint64(WORD),
        )
        k0, k1 = (k0 + steps[0]) & np.uint64(WORD), (k1 + steps[1]) & np.uint64(WORD)
    return as_ints(np.stack([c0, c1, c2, c3], axis=1).astype(np.int64))


def words_of_tokens(ids_N: Ints, *, position: int, sample: int, seed: int) -> Ints:
    """Return the random word of each token id at one position of one sample, [N].

    Four neighbouring ids share a counter: id is word `id mod 4` of counter (id / 4, position,
    sample, 0) under the key (seed mod 2^32, seed / 2^32).
    """
    blocks, inverse = np.unique(ids_N >> 2, return_inverse=True)
    counters = np.zeros((len(blocks), 4), np.int64)
    counters[:, 0], counters[:, 1], counters[:, 2] = blocks, position, sample
    words_B4 = philox(counters, (seed & WORD, seed >> 32))
    return as_ints(words_B4[inverse, ids_N & 3])


def words_of_draws(ids_N: Ints, position_N: Ints, sample_N: Ints, seeds_N: Words) -> Ints:
    """Return the random word of each token id, each at a position, of a sample and a seed of its own.

    They are the words of `words_of_tokens`. A counter that several ids share is computed for each.
    """
    counters = np.stack([ids_N >> 2, position_N, sample_N, np.zeros_like(ids_N)], axis=1)
    words_N4 = philox(counters, (seeds_N & np.uint64(WORD), seeds_N >> np.uint64(32)))
    return as_ints(words_N4[np.arange(len(ids_N)), ids_N & 3])
