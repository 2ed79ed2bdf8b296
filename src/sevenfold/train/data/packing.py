"""Pack whole samples of an objective into rows, in the order of `windows`, with the targets that
count.

A row begins with <|endoftext|>. Then come as many samples as fit, each with its own end of text.
The rest of the row is ends of text that do not count. A sample is never cut, so a middle always
sees its prefix and suffix. The step alone determines its rows.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sevenfold.tokenizer.token_file import TokenFile
from sevenfold.train.data.windows import golden_stride


@dataclass(frozen=True, kw_only=True)
class SampleBatches:
    """Rows by step.

    `file` holds samples as pairs of documents: context, targets (specs/dataset.md). With `is_paired`,
    two samples in order, the chosen answer and the rejected one, are one item, which is not cut.
    """

    file: TokenFile
    sequence: int
    batch_sequences: int
    end: int
    is_paired: bool = False

    @property
    def _n_documents(self) -> int:
        """Return the number of documents of an item."""
        return 4 if self.is_paired else 2

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        """Return the first item of each row, and the number of items after the last one.
        Memory: 8 bytes for each row.
        """
        each = self._n_documents
        offsets, n_samples = self.file.offsets, self.file.n_documents // each
        bounds = array("q", [0])
        while (first := bounds[-1]) < n_samples:
            # An item has 2 to `sequence` tokens, so a row holds between one and `sequence` of them.
            ends = offsets[each * (first + 1) : each * (first + self.sequence + 1) : each]
            limit = int(offsets[each * first]) + self.sequence
            bounds.append(first + int(np.searchsorted(ends, np.uint64(limit), side="right")))
            self.file.mapped.was_read()
        return np.frombuffer(bounds, np.int64)

    @property
    def n_rows(self) -> int:
        """Return the number of rows in one epoch."""
        return len(self._rows) - 1

    def _numbers(self, step: int) -> list[int]:
        first, stride = step * self.batch_sequences, golden_stride(self.n_rows)
        return [(first + b) * stride % self.n_rows for b in range(self.batch_sequences)]

    def _documents(self, row: int) -> range:
        each = self._n_documents
        return range(each * int(self._rows[row]), each * int(self._rows[row + 1]))

    def _filled(self, fill: int, value: Callable[[int], NDArray[np.int64]], row: int) -> NDArray[np.int64]:
        """Return [sequence + 1]: `fill`, then the values of each document of the row, then `fill`
        to the end.
        """
        out = np.full(self.sequence + 1, fill, np.int64)
        joined = np.concatenate([value(document) for document in self._documents(row)])
        out[1 : 1 + len(joined)] = joined
        return out

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return int64 [batch_sequences, sequence + 1]."""

        def ids(document: int) -> NDArray[np.int64]:
            return self.file.document(document).astype(np.int64)

        return np.stack([self._filled(self.end, ids, row) for row in self._numbers(step)])

    def counted(self, step: int) -> NDArray[np.float32]:
        """Return float32 [batch_sequences, sequence], 1 for the targets of samples; of pairs, the
        number of the sample in its row, from 1.
        """

        def marks(row: int) -> NDArray[np.int64]:
            first = self._documents(row).start

            def mark(document: int) -> NDArray[np.int64]:
                number = (document - first) // 2 + 1 if self.is_paired else 1
                return np.full(len(self.file.document(document)), document % 2 * number, np.int64)

            return self._filled(0, mark, row)[1:]

        return np.stack([marks(row) for row in self._numbers(step)]).astype(np.float32)

    def items(self, step: int) -> list[int]:
        """Return the numbers of the samples, or pairs, of each row."""
        rows = self._rows
        return [item for row in self._numbers(step) for item in range(int(rows[row]), int(rows[row + 1]))]

    def domains(self, _step: int) -> list[str]:
        """Return "" for each row, because the rows of an objective have no domain."""
        return [""] * self.batch_sequences

    def spans(self, step: int) -> list[tuple[str, int, int]]:
        """Return the first token and the end of the samples of each row in the file."""
        offsets, rows = self.file.offsets, [self._documents(row) for row in self._numbers(step)]
        return [("", int(offsets[row.start]), int(offsets[row.stop])) for row in rows]

    def epochs(self, n_steps: int) -> dict[str, float]:
        """Return how many epochs of the samples a run of `n_steps` steps trains on."""
        return {"": n_steps * self.batch_sequences / self.n_rows}
