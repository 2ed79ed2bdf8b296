"""Find the words of a text that belong to a permissive licence, and to which one.

`explained.npz` holds hashes of the word 4-grams of the texts and notices of the licences that
people allow. It is derived from the licence rules of scancode-toolkit (CC-BY-4.0) by
`scripts/licence_rules.py`, and holds no text. A word is explained when a run of four words around
it is known.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from sevenfold.corpus import native
from sevenfold.corpus.text.ngrams import Sorted, ngram_hashes, word_hashes

DATA = Path(__file__).with_name("explained.npz")
WORDS_IN_A_GRAM = 4

# Letters, digits and bytes above ASCII are kept. All other bytes separate words.
_SEPARATORS = bytes(
    code if (chr(code).isascii() and chr(code).isalnum()) or code >= 128 else 0x20 for code in range(256)
)


@dataclass(frozen=True, slots=True)
class _Known:
    """Legend: G known 4-grams.

    Bit i of an owner is licence i. Further bits mark 4-grams that are explained but name no licence.
    """

    licences: tuple[str, ...]
    # u64[G].
    grams: Sorted
    owners_G: np.ndarray  # u32  # noqa: N815 - shape suffix


@cache
def known() -> _Known:
    """Return the known word runs."""
    with np.load(DATA, allow_pickle=False) as arrays:
        names = arrays["licences"].tobytes().decode().split("\n")
        return _Known(tuple(names), Sorted(arrays["grams"]), arrays["owners"])


def plain_words(normalised: str) -> bytes:
    """Return the words of normalised text with one space between each two, UTF-8."""
    text = normalised.lower().encode("utf-8", "replace")
    words = native.plain_words(text)
    return plain_words_in_python(text) if words is None else words


def plain_words_in_python(text: bytes) -> bytes:
    """Return the words of a text in lower case, where the library is not built."""
    return b" ".join(text.translate(_SEPARATORS).split())


class Explained:
    """The explanation of the words of a text.

    Legend: W words, R = max(W - 3, 0) runs of four words.

    Args:
        words: what `plain_words` gives.
    """

    def __init__(self, words: bytes) -> None:
        self.words = words
        self.hashes = word_hashes(words)
        runs = ngram_hashes(self.hashes, WORDS_IN_A_GRAM)
        library = known()
        held, places = library.grams.find(runs)
        self._owners_R = np.zeros(len(runs), np.uint32)
        self._owners_R[held] = library.owners_G[places]
        is_known = self._owners_R != 0
        # Whether words i and i + 1 are in one known run.
        pairs = np.zeros(len(self.hashes) + WORDS_IN_A_GRAM, bool)
        for k in range(WORDS_IN_A_GRAM - 1):
            pairs[k : k + len(is_known)] |= is_known
        self._gaps_W: list[int] = np.concatenate(([0], np.cumsum(~pairs))).tolist()
        self._ends_W: list[int] = np.flatnonzero(np.frombuffer(words + b" ", np.uint8) == 0x20).tolist()

    def __len__(self) -> int:
        return len(self.hashes)

    def word_at(self, place: int) -> int:
        """Return the number of the word that holds byte `place` of the words, or of the one before."""
        return bisect_left(self._ends_W, place)

    def text(self, first: int, last: int) -> bytes:
        """Return the words `first` to `last` (inclusive), as far as they exist."""
        first = max(0, first)
        if first > last or first >= len(self._ends_W):
            return b""
        start = self._ends_W[first - 1] + 1 if first else 0
        return self.words[start : self._ends_W[min(last, len(self._ends_W) - 1)]]

    def explains(self, first: int, last: int) -> bool:
        """Return whether each two neighbours of words `first` to `last` (inclusive) are in one known
        run.
        """
        first, last = max(0, first), min(last, len(self.hashes) - 1)
        return self._gaps_W[max(last, first + 1)] == self._gaps_W[first]

    def stretches(self, least: int) -> list[tuple[int, int]]:
        """Return (first, last) of the words that are explained `least` or more in a row."""
        if len(self) + WORDS_IN_A_GRAM - self._gaps_W[-1] < least - 1:
            return []
        is_gap = np.diff(self._gaps_W) != 0
        edges = np.flatnonzero(np.diff(np.concatenate(([True], is_gap, [True]))))
        return [(first, last) for first, last in edges.reshape(-1, 2).tolist() if last - first + 1 >= least]

    def owners(self, first: int, last: int) -> list[tuple[str, float]]:
        """Return the licences of the known stretch around words `first` to `last`, each with its
        share of the runs, largest first.
        """
        is_known = self._owners_R != 0
        low, high = max(0, first - WORDS_IN_A_GRAM + 1), min(len(is_known), last + 1)
        while low and is_known[low - 1]:
            low -= 1
        while high < len(is_known) and is_known[high]:
            high += 1
        runs = self._owners_R[low:high][is_known[low:high]]
        if not len(runs):
            return []
        shares = [
            (name, float(np.count_nonzero(runs >> np.uint32(i) & np.uint32(1))) / len(runs))
            for i, name in enumerate(known().licences)
        ]
        return sorted(shares, key=lambda item: -item[1])
