"""Interleave domains in a fixed pattern that realises `corpus.mix` exactly, without a shuffle (A2,
A4).

Shares become whole weights w_d (35 % and 65 %: 7 and 13), and the windows of a run repeat one
pattern of sum(w) slots. Slot i goes to the domain with the largest deficit (i + 1) * w_d - sum(w) *
(slots it has), and among equals to the first by name. Each period therefore holds exactly w_d windows
of d, and the windows of a domain are spread evenly. Within a domain the order is that of `windows`.
A domain with too few windows for its share starts over, which is counted as epochs. A window never
crosses from one domain into another.

The number of a slot determines its window, so the step remains the only data cursor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.errors import RecipeError
from sevenfold.tokenizer.index import DocumentIndex
from sevenfold.tokenizer.token_file import TokenFile
from sevenfold.train.data.windows import Batches

MAX_PERIOD = 1_000_000
# The number of documents in a block.
BLOCK = 1024


class DomainTokens:
    """The documents of one domain, concatenated as one stream.

    Memory: 8 bytes for BLOCK documents of the file, of any domain. Within a block, documents are
    counted when it is read.
    """

    def __init__(self, file: TokenFile, index: DocumentIndex, domain: str) -> None:
        self._file, self._index = file, index
        self._number = index.domains.index(domain) if domain in index.domains else len(index.domains)
        totals = [self._totals(start) for start in range(0, file.n_documents, BLOCK * BLOCK)]
        # The tokens of the domain up to the end of each block.
        self._ends = np.cumsum(np.concatenate((np.zeros(0, np.int64), *totals)))

    def _lengths(self, first: int, stop: int) -> NDArray[np.int64]:
        """Return the lengths of documents [first, stop) in tokens; 0 for those of another domain."""
        mine = self._index.domain_of[first:stop] == self._number
        lengths: NDArray[np.int64] = np.diff(self._file.offsets[first : stop + 1]).astype(np.int64) * mine
        return lengths

    def _totals(self, first: int) -> NDArray[np.int64]:
        """Return how many tokens of the domain each of up to BLOCK blocks has."""
        lengths = self._lengths(first, min(first + BLOCK * BLOCK, self._file.n_documents))
        self._file.mapped.release()
        self._index.mapped.release()
        return np.add.reduceat(lengths, range(0, len(lengths), BLOCK))

    def __len__(self) -> int:
        """Return the number of tokens of the domain."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, part: slice) -> NDArray[np.integer]:
        """Return the tokens of a slice without a step. It may span several documents."""
        start, stop, _ = part.indices(len(self))
        pieces = [
            self._file.document(document)[max(0, start - begin) : stop - begin]
            for document, begin in self._places(start, stop)
        ]
        return np.concatenate(pieces) if pieces else self._file.tokens[:0]

    def _places(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the number and the first token in this stream of each document of tokens [start,
        stop).
        """
        if stop <= start:
            return
        first, last = (int(b) for b in np.searchsorted(self._ends, (start, stop - 1), side="right"))
        for block in range(first, last + 1):
            number = block * BLOCK
            lengths = self._lengths(number, min(number + BLOCK, self._file.n_documents))
            self._index.mapped.was_read()
            self._file.mapped.was_read()
            ends = np.cumsum(lengths) + (int(self._ends[block - 1]) if block else 0)
            for place in np.flatnonzero((lengths > 0) & (ends > start) & (ends - lengths < stop)):
                yield number + int(place), int(ends[place] - lengths[place])

    def documents(self, start: int, stop: int) -> list[int]:
        """Return the numbers of the documents of tokens [start, stop)."""
        return [document for document, _ in self._places(start, stop)]


def weights(mix: Mapping[str, float]) -> dict[str, int]:
    """Return the whole weights in the ratio of the decimal shares. Domains without a share are left
    out.

    Raises:
        RecipeError: the shares have so many digits that a period would exceed MAX_PERIOD windows.
    """
    shares = {domain: Fraction(repr(mix[domain])) for domain in sorted(mix) if mix[domain] > 0}
    common = math.lcm(*(share.denominator for share in shares.values()))
    whole = {domain: int(share * common) for domain, share in shares.items()}
    divisor = math.gcd(*whole.values())
    found = {domain: weight // divisor for domain, weight in whole.items()}
    if sum(found.values()) > MAX_PERIOD:
        raise RecipeError(
            f"shares with so many digits repeat only after {sum(found.values())} windows",
            where="corpus.mix",
            remedy="give each share in per cent with at most four decimals",
        )
    return found


def interleave_pattern(weight: Mapping[str, int]) -> list[str]:
    """Return the domain of each slot of one period."""
    total, names = sum(weight.values()), sorted(weight)
    behind, slots = dict.fromkeys(names, 0), []
    for _ in range(total):
        for name in names:
            behind[name] += weight[name]
        chosen = max(names, key=behind.__getitem__)
        behind[chosen] -= total
        slots.append(chosen)
    return slots


@dataclass(frozen=True, kw_only=True)
class MixedBatches:
    """Batches over several domains. `streams` holds windows of each domain in the mix."""

    streams: Mapping[str, Batches]
    mix: Mapping[str, float]
    sequence: int
    batch_sequences: int

    @cached_property
    def _period(self) -> tuple[list[str], list[int], dict[str, int]]:
        """Return for each slot its domain and how many slots of that domain precede it, and the
        weights.
        """
        weight = weights(self.mix)
        slots, seen, before = interleave_pattern(weight), dict.fromkeys(weight, 0), []
        for name in slots:
            before.append(seen[name])
            seen[name] += 1
        return slots, before, weight

    def slot(self, window: int) -> tuple[str, int]:
        """Return the domain of window `window` of the run, and its number among the windows of that
        domain.
        """
        slots, before, weight = self._period
        period, slot = divmod(window, len(slots))
        name = slots[slot]
        return name, period * weight[name] + before[slot]

    def _slots(self, step: int) -> list[tuple[str, int]]:
        first = step * self.batch_sequences
        return [self.slot(first + b) for b in range(self.batch_sequences)]

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return int64 [batch_sequences, sequence + 1]: inputs are [:, :-1], targets [:, 1:]."""
        return np.stack([self.streams[name].row(number) for name, number in self._slots(step)])

    def domains(self, step: int) -> list[str]:
        """Return the domain of each row."""
        return [name for name, _ in self._slots(step)]

    def counted(self, _step: int) -> None:
        """Return None: every target counts."""

    def spans(self, step: int) -> list[tuple[str, int, int]]:
        """Return the domain, first token and end of each window in its domain's stream."""
        rows = ((name, self.streams[name], number) for name, number in self._slots(step))
        return [
            (name, stream.start(number), stream.start(number) + stream.width) for name, stream, number in rows
        ]

    def items(self, _step: int) -> list[int]:
        """Return nothing, because windows are no samples."""
        return []

    def epochs(self, n_steps: int) -> dict[str, float]:
        """Return how many epochs of each domain a run of `n_steps` steps trains on."""
        slots, _, weight = self._period
        periods, rest = divmod(n_steps * self.batch_sequences, len(slots))
        return {
            name: (periods * weight[name] + slots[:rest].count(name)) / self.streams[name].n_windows
            for name in weight
        }
