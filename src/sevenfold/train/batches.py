"""The fixed order of training data: no shuffle, no randomness, and still every batch mixes the corpus (A4).

The token stream is cut into windows of `sequence` tokens. Window i of the run is (i * stride) mod n_windows, with the stride next
to the golden section of n_windows and coprime to it: each pass visits every window once, and neighbours in time lie
far apart in the corpus. Consecutive windows would put one file into a whole batch, which at this size does not
learn at all (dev/LOG.md). The data cursor is the step number alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.errors import StorageError

GOLDEN_NUMERATOR, GOLDEN_DENOMINATOR = 618_033_989, 1_000_000_000


def golden_stride(n_windows: int) -> int:
    """Smallest number from 0.618 * n_windows upwards that shares no factor with n_windows."""
    stride = max(1, n_windows * GOLDEN_NUMERATOR // GOLDEN_DENOMINATOR)
    while math.gcd(stride, n_windows) != 1:
        stride += 1
    return stride


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Random access to batches by step. `tokens` is the whole stream, memory-mapped or not."""

    tokens: NDArray[np.integer]
    sequence: int
    batch_sequences: int

    def __post_init__(self) -> None:
        if self.n_windows < 1:
            raise StorageError(
                f"the training stream has {len(self.tokens)} tokens, one window needs {self.sequence + 1}",
                where="tokenizer/train.tokens",
                remedy="add documents to the corpus or shorten train.sequence",
            )

    @property
    def n_windows(self) -> int:
        """Windows with a next token for each position."""
        return (len(self.tokens) - 1) // self.sequence

    def starts(self, step: int) -> list[int]:
        """Offset in the stream of each window of a step."""
        stride, n = golden_stride(self.n_windows), self.n_windows
        first = step * self.batch_sequences
        return [((first + b) * stride % n) * self.sequence for b in range(self.batch_sequences)]

    def batch(self, step: int) -> NDArray[np.int64]:
        """int64 [batch_sequences, sequence + 1]: inputs are [:, :-1], targets [:, 1:]."""
        rows = [self.tokens[s : s + self.sequence + 1] for s in self.starts(step)]
        return np.stack(rows).astype(np.int64)


def evaluation_starts(n_tokens: int, sequence: int, n_windows: int | None = None) -> list[int]:
    """Offsets of non-overlapping windows of a held-out stream: all, or `n_windows` evenly spaced ones.

    Raises:
        StorageError: the stream is shorter than one window.
    """
    available = (n_tokens - 1) // sequence
    if available < 1:
        raise StorageError(
            f"the held-out stream has {n_tokens} tokens, one window needs {sequence + 1}",
            where="tokenizer/heldout.tokens",
            remedy="lower corpus.holdout (one document in N is held out) or add documents",
        )
    chosen = min(available, n_windows or available)
    return [(i * available // chosen) * sequence for i in range(chosen)]
