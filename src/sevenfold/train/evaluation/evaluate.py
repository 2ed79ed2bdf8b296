"""Bits per byte of a float model on held-out text.

bits per byte = sum of the token losses in bits / UTF-8 bytes of the tokens predicted. Tokens that
stand for no bytes (end of text) cost bits and count no bytes. Windows do not overlap, so most
tokens see less than the full context, as in training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sevenfold.core.errors import StorageError
from sevenfold.core.numbers.floats import sum_in_order
from sevenfold.core.process.log import Progress, Silent
from sevenfold.core.run_files import WEIGHTS
from sevenfold.model.kernels import operators
from sevenfold.model.transformer import Transformer

_EVAL_BATCH = 8
# The constant is written out, because a C library would decide its last bit.
LN2 = 0.6931471805599453


@dataclass(frozen=True, kw_only=True)
class Score:
    """The losses of one evaluation."""

    nats: float
    n_tokens: int
    n_bytes: int

    @property
    def bits_per_byte(self) -> float:
        """Return the bits per byte, the figure to publish."""
        return self.nats / LN2 / self.n_bytes

    def __add__(self, other: Score) -> Score:
        """Return the sum of both."""
        return Score(
            nats=self.nats + other.nats,
            n_tokens=self.n_tokens + other.n_tokens,
            n_bytes=self.n_bytes + other.n_bytes,
        )


def predicted_bytes(rows: NDArray[np.int64], token_lengths: NDArray[np.int64]) -> int:
    """Return the number of UTF-8 bytes of all targets in `rows`."""
    return int(token_lengths[rows[:, 1:]].sum())


def token_losses(logits_BTV: torch.Tensor, target_BT: torch.Tensor) -> torch.Tensor:
    """Return the cross entropies in nats, [B, T] float32, of float32 logits and int64 targets."""
    if operators.is_taken(logits_BTV):
        rows = logits_BTV.flatten(0, 1).contiguous()
        return operators.losses(rows, target_BT.flatten(), None).view(target_BT.shape)
    return torch.logsumexp(logits_BTV, -1) - logits_BTV.gather(-1, target_BT.unsqueeze(-1)).squeeze(-1)


@torch.no_grad()
def float_score(
    model: Transformer,
    rows: NDArray[np.int64],
    token_lengths: NDArray[np.int64],
    progress: Progress | None = None,
    stack: int | None = None,
    watch: Callable[[int, torch.Tensor], None] | None = None,
) -> tuple[Score, NDArray[np.int64]]:
    """Return the score and the greedy choices ([n_windows, sequence]) of the float model on windows
    of tokens.

    `watch` receives the losses (nats, [B, T]) of the rows from its first argument on.

    Raises:
        StorageError: the loss is not finite, so the weights are no model that computes in float32.
    """
    listener = progress or Silent()
    model.eval()
    nats, choices = 0.0, []
    for start in range(0, len(rows), _EVAL_BATCH):
        batch = torch.from_numpy(rows[start : start + _EVAL_BATCH]).to(model.embedding.weight.device)
        logits = model(batch[:, :-1], stack)
        loss = token_losses(logits, batch[:, 1:])
        if watch is not None:
            watch(start, loss.cpu())
        nats += sum_in_order(operators.nats(loss.cpu(), None))
        choices.append(logits.argmax(-1).cpu().numpy())
        listener.advance(min(start + _EVAL_BATCH, len(rows)))
    if not math.isfinite(nats):
        raise StorageError(
            f"the loss of the float model on held-out text is {nats}",
            where=WEIGHTS,
            remedy="its weights leave the range of float32: train or import another model",
        )
    score = Score(
        nats=nats,
        n_tokens=rows[:, 1:].size,
        n_bytes=predicted_bytes(rows, token_lengths),
    )
    return score, np.concatenate(choices)
