"""The fixed order of training data.

Nothing is shuffled or random, and every batch mixes the corpus (A4). The token stream is cut into
windows of `sequence` tokens. Window i of the run is (i * stride) mod n_windows. The stride is the
number next to the golden section of n_windows that is coprime to it. Each epoch visits every window
once, and successive windows are far apart in the corpus. Consecutive windows would fill a batch
with one file, and at this size such a model does not learn at all (dev/LOG.md). The step number is
the only data cursor. `interleave` combines one such order for each domain of a mix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.errors import StorageError
from sevenfold.core.run_files import HELDOUT_TOKENS, TRAIN_TOKENS

GOLDEN_NUMERATOR, GOLDEN_DENOMINATOR = 618_033_989, 1_000_000_000


def golden_stride(n_windows: int) -> int:
    """Return the smallest number from 0.618 * n_windows upwards that shares no factor with
    n_windows.
    """
    stride = max(1, n_windows * GOLDEN_NUMERATOR // GOLDEN_DENOMINATOR)
    while math.gcd(stride, n_windows) != 1:
        stride += 1
    return stride


class Tokens(Protocol):
    """A stream of token ids: an array, mapped or not, or the concatenated documents of a domain."""

    def __len__(self) -> int:
        """Return the number of tokens."""

    def __getitem__(self, part: Any, /) -> NDArray[np.integer]:
        """Return the tokens of a slice."""


class BatchSource(Protocol):
    """Batches by step, as a run reads them."""

    @property
    def batch_sequences(self) -> int:
        """Return the number of rows of a batch."""

    @property
    def sequence(self) -> int:
        """Return the number of tokens in a row, without the target of the last."""

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return int64 [batch_sequences, sequence + 1]: inputs are [:, :-1], targets [:, 1:]."""

    def domains(self, step: int) -> list[str]:
        """Return the domain of each row; "" for a run without domains."""

    def counted(self, step: int) -> NDArray[np.float32] | None:
        """Return float32 [batch_sequences, sequence], 1 for a target that counts and 0 for others;
        None when all count.
        """

    def spans(self, step: int) -> list[tuple[str, int, int]]:
        """Return the domain, first token and end of the window of each row, in the stream of that
        domain.
        """

    def items(self, step: int) -> list[int]:
        """Return the numbers in their file of the samples or pairs of a step, in the order of its
        rows; none for windows.
        """

    def epochs(self, n_steps: int) -> dict[str, float]:
        """Return how many epochs of each domain a run of `n_steps` steps trains on; the domain is
        "" for a run without domains.
        """


def window_rows(tokens: Tokens, starts: list[int], sequence: int) -> NDArray[np.int64]:
    """Return int64 [n_windows, sequence + 1]: the window from each start, with its last target."""
    return np.stack([np.asarray(tokens[s : s + sequence + 1]) for s in starts]).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Random access to batches by step, in the order of the module docstring.

    `lead` is a token that is put before every window, such as the token of a domain for expert
    stacks. All tokens of a window are then targets.
    """

    tokens: Tokens
    sequence: int
    batch_sequences: int
    domain: str = ""
    lead: int | None = None

    def __post_init__(self) -> None:
        if self.n_windows < 1:
            of_domain = f" of domain {self.domain}" if self.domain else ""
            raise StorageError(
                f"the training stream{of_domain} has {len(self.tokens)} tokens, one window needs"
                f" {self.width}",
                where=f"tokenizer/{TRAIN_TOKENS}",
                remedy="add documents to the corpus or shorten train.sequence",
            )

    @property
    def width(self) -> int:
        """Return how many tokens of the stream one row holds."""
        return self.sequence + (self.lead is None)

    @property
    def n_windows(self) -> int:
        """Return the number of windows whose every position has a next token."""
        return (len(self.tokens) - self.width) // self.sequence + 1

    def start(self, window: int) -> int:
        """Return the offset in the stream of window `window` of the run."""
        return window * golden_stride(self.n_windows) % self.n_windows * self.sequence

    def row(self, window: int) -> NDArray[np.int64]:
        """Return int64 [sequence + 1]."""
        start = self.start(window)
        row = np.asarray(self.tokens[start : start + self.width]).astype(np.int64)
        return row if self.lead is None else np.concatenate((np.array([self.lead], np.int64), row))

    def _windows(self, step: int) -> range:
        return range(step * self.batch_sequences, (step + 1) * self.batch_sequences)

    def starts(self, step: int) -> list[int]:
        """Return the offset in the stream of each window of a step."""
        return [self.start(window) for window in self._windows(step)]

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return int64 [batch_sequences, sequence + 1]: inputs are [:, :-1], targets [:, 1:]."""
        return np.stack([self.row(window) for window in self._windows(step)])

    def domains(self, step: int) -> list[str]:
        """Return the one domain for each row."""
        return [self.domain for _ in self._windows(step)]

    def counted(self, _step: int) -> None:
        """Return None: every target counts."""

    def spans(self, step: int) -> list[tuple[str, int, int]]:
        """Return the domain, first token and end of each window."""
        return [(self.domain, start, start + self.width) for start in self.starts(step)]

    def items(self, _step: int) -> list[int]:
        """Return nothing, because windows are no samples."""
        return []

    def epochs(self, n_steps: int) -> dict[str, float]:
        """Return how many epochs of the stream a run of `n_steps` steps trains on."""
        return {self.domain: n_steps * self.batch_sequences / self.n_windows}


def evaluation_starts(n_tokens: int, sequence: int, n_windows: int | None = None) -> list[int]:
    """Return the offsets of non-overlapping windows of a held-out stream: all, or `n_windows`
    evenly spaced ones.

    Raises:
        StorageError: the stream is shorter than one window.
    """
    available = (n_tokens - 1) // sequence
    if available < 1:
        raise StorageError(
            f"the held-out stream has {n_tokens} tokens, one window needs {sequence + 1}",
            where=f"tokenizer/{HELDOUT_TOKENS}",
            remedy="lower corpus.holdout (one document in N is held out) or add documents",
        )
    chosen = min(available, n_windows or available)
    return [(i * available // chosen) * sequence for i in range(chosen)]
