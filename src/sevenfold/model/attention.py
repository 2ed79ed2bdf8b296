"""Causal grouped-query attention (arXiv 2305.13245) with RoPE, over a window or over each document
in it.

Shape suffixes: B batch, T sequence, D d_model, H query heads, K key/value heads, E head_dim.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from sevenfold.model import native
from sevenfold.model.kernels import bf16, causal, functions, operators
from sevenfold.model.kernels.causal import causal_attention
from sevenfold.model.kernels.functions import Segments
from sevenfold.model.linear import Linear
from sevenfold.model.rope import Rope
from sevenfold.recipe.schema import ModelSpec


def document_segments(ids_BT: Tensor, start_id: int) -> Segments:
    """Return the lengths of the documents of each row. A document begins at `start_id`. The tokens
    before the first one count as a document.
    """
    found = []
    for row in ids_BT:
        starts = torch.nonzero(row == start_id).flatten().tolist()
        edges = [0, *(s for s in starts if s > 0), row.numel()]
        found.append([b - a for a, b in pairwise(edges)])
    return found


class Attention(nn.Module):
    """Grouped-query attention in which every token attends to itself and to earlier tokens."""

    def __init__(self, spec: ModelSpec, rope: Rope) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = spec.n_heads, spec.n_kv_heads, spec.head_dim
        self.q_proj = Linear(spec.d_model, spec.n_heads * spec.head_dim)
        self.k_proj = Linear(spec.d_model, spec.n_kv_heads * spec.head_dim)
        self.v_proj = Linear(spec.d_model, spec.n_kv_heads * spec.head_dim)
        self.o_proj = Linear(spec.n_heads * spec.head_dim, spec.d_model)
        # A tuple keeps the one shared table from being registered once for each layer.
        self._rope = (rope,)

    def attend(self, q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, _x_BTD: Tensor) -> Tensor:
        """Return attention over one document that starts at position 0, [B, H, T, E]. It takes
        queries, keys and values before rotation, and their input.
        """
        rope = self._rope[0]
        if bf16.is_taken(q_BHTE) and native.fits_whole(self.head_dim):
            return bf16.attention(q_BHTE, k_BKTE, v_BKTE, *rope.tables(q_BHTE))
        return causal_attention(rope(q_BHTE), rope(k_BKTE), v_BKTE)

    def forward(self, x_BTD: Tensor, segments: Segments | None = None) -> Tensor:
        """Map [B, T, D] -> [B, T, D]. With `segments`, each document is separate."""
        projected = bf16.projections(x_BTD, self.q_proj, self.k_proj, self.v_proj)
        q_BHTE, k_BKTE, v_BKTE = (self._heads(x) for x in projected)
        if segments is None:
            y_BHTE = self.attend(q_BHTE, k_BKTE, v_BKTE, x_BTD)
        elif self._takes_documents(q_BHTE):
            rope = self._rope[0]
            q, k = (functions.rotated(t, *rope.tables(t), segments) for t in (q_BHTE, k_BKTE))
            y_BHTE = causal_attention(q, k, v_BKTE, segments)
        else:
            y_BHTE = self._by_document(q_BHTE, k_BKTE, v_BKTE, x_BTD, segments)
        return self._output(y_BHTE)

    def _heads(self, projected_BTC: Tensor) -> Tensor:
        """Return [B, T, H * E] as [B, H, T, E], a view."""
        x_BHTE: Tensor = projected_BTC.unflatten(2, (-1, self.head_dim)).transpose(1, 2)
        return x_BHTE

    def _output(self, y_BHTE: Tensor) -> Tensor:
        """Map [B, H, T, E] -> [B, T, D]."""
        y_BTD: Tensor = self.o_proj(y_BHTE.transpose(1, 2).flatten(2))
        return y_BTD

    def _takes_documents(self, q_BHTE: Tensor) -> bool:
        """Return whether all documents are one call. Autograd then adds no gradients of overlapping
        views.
        """
        return type(self) is Attention and operators.is_taken(q_BHTE) and causal.is_taken(q_BHTE)

    def _by_document(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, segments: Segments) -> Tensor:
        rows = []
        for row, lengths in enumerate(segments):
            parts = zip(
                *(t[row : row + 1].split(lengths, dim) for t, dim in ((q, 2), (k, 2), (v, 2), (x, 1))),
                strict=True,
            )
            rows.append(torch.cat([self.attend(*part) for part in parts], dim=2))
        return torch.cat(rows)
