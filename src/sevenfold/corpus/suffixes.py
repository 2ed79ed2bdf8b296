"""Sort the suffixes of a text that begin at a multiple of `BLOCK` bytes, by prefix doubling.

A sorted list of every sixteenth suffix needs a quarter of a byte for each byte of text. A suffix array
of all bytes needs four. A span of 2 * BLOCK - 1 bytes or more contains a whole block wherever it
begins, so none is missed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 16
_SHIFT = np.uint64(32)


def sorted_suffixes(text: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return the block numbers of a text in the order of the suffixes that begin there.

    After a round with step h, suffixes are in the order of their first 2 * h blocks. Only groups that
    are still equal are sorted again. The end of the text sorts before everything.

    Args:
        text: u8 [n * BLOCK], n below 2^32 - 1.

    Returns:
        u32 [n].
    """
    halves = text.view(">u8").reshape(-1, 2)
    order: NDArray[np.uint32] = np.lexsort((halves[:, 1], halves[:, 0])).astype(np.uint32)
    starts = np.ones(len(order), bool)
    starts[1:] = (halves[order[1:]] != halves[order[:-1]]).any(axis=1)
    n = len(order)
    # 0 is the end of the text; the rank of a suffix is the place of its group, counted from 1.
    rank = np.zeros(n + 1, np.uint32)
    rank[order] = _group_of(starts) + 1
    places = _unsorted(starts, np.arange(n, dtype=np.uint32))
    step = 1
    while len(places):
        members = order[places].astype(np.int64)
        keys = (rank[members].astype(np.uint64) << _SHIFT) | rank[np.minimum(members + step, n)]
        by_key = np.argsort(keys, kind="stable")
        keys, members = keys[by_key], members[by_key]
        order[places] = members
        starts = np.ones(len(keys), bool)
        starts[1:] = keys[1:] != keys[:-1]
        rank[members] = places[_group_of(starts)] + 1
        places = _unsorted(starts, places)
        step *= 2
    return order


def _group_of(starts: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Return for each place the place at which its group begins."""
    begins = np.where(starts, np.arange(len(starts), dtype=np.uint32), np.uint32(0))
    found: NDArray[np.uint32] = np.maximum.accumulate(begins)
    return found


def _unsorted(starts: NDArray[np.bool_], places: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the places that lie in groups of more than one."""
    is_alone = starts & np.append(starts[1:], True)
    found: NDArray[np.uint32] = places[~is_alone]
    return found
