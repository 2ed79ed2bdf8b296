"""Held-out bits per byte by position in the sequence (C5, C14).

A bucket holds the predicted tokens whose position in their document is in a range. The first bucket
is the window of the model (or 64 tokens), and each next one is twice as long. With `train.packing:
stream` a window counts as one document.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from sevenfold.core.hashing import Json
from sevenfold.model.attention import document_segments
from sevenfold.recipe.schema import HybridAttentionSpec, ModelSpec
from sevenfold.train.evaluation.evaluate import LN2

FIRST = 64


def first_edge(model: ModelSpec) -> int:
    """Return the length of the first bucket: the window of the model, if it has one."""
    return model.attention.local_chunk if isinstance(model.attention, HybridAttentionSpec) else FIRST


def positions(rows: NDArray[np.int64], document_start: int | None) -> NDArray[np.int64]:
    """Return the position of each input token in its document, or in its window without documents.
    rows [n, T + 1] -> [n, T].
    """
    inputs = rows[:, :-1]
    if document_start is None:
        return np.broadcast_to(np.arange(inputs.shape[1]), inputs.shape)
    lengths = document_segments(torch.from_numpy(inputs), document_start)
    return np.stack([np.concatenate([np.arange(n) for n in row]) for row in lengths])


class Buckets:
    """Sums of losses and bytes by position. It listens to `evaluate.float_score`."""

    def __init__(
        self, rows: NDArray[np.int64], lengths: NDArray[np.int64], first: int, document_start: int | None
    ) -> None:
        self.where = positions(rows, document_start)
        n_doublings = math.ceil(math.log2(max(1.0, rows.shape[1] / first)))
        self.edges = np.array([0, *(first << i for i in range(n_doublings + 1))])
        self.bytes = lengths[rows[:, 1:]]
        self.nats = np.zeros(self.where.shape)

    def add(self, first: int, start: int, loss_BT: torch.Tensor) -> None:
        """Add the losses of the rows from `start` on, for the group of rows that begins at `first`."""
        at = first + start
        self.nats[at : at + len(loss_BT)] = loss_BT.to(torch.float64).numpy()

    def table(self) -> dict[str, Json]:
        """Return a table from bucket (first-last position) to bits per byte. Empty buckets are left
        out.
        """
        result: dict[str, Json] = {}
        for low, high in zip(self.edges[:-1], self.edges[1:], strict=True):
            inside = (self.where >= low) & (self.where < high)
            n_bytes = int(self.bytes[inside].sum())
            if n_bytes:
                result[f"{low}-{high - 1}"] = math.fsum(self.nats[inside].tolist()) / LN2 / n_bytes
        return result
