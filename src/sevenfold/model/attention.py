"""Causal grouped-query attention (arXiv 2305.13245) with RoPE.

Shape suffixes: B batch, T sequence, D d_model, H query heads, K key/value heads, E head_dim.
"""

from __future__ import annotations

from torch import Tensor, nn

from sevenfold.model.causal import causal_attention
from sevenfold.model.linear import Linear
from sevenfold.model.rope import Rope
from sevenfold.recipe.schema import ModelSpec


class Attention(nn.Module):
    """Every token looks at itself and what is before it."""

    def __init__(self, spec: ModelSpec, rope: Rope) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = spec.n_heads, spec.n_kv_heads, spec.head_dim
        self.q_proj = Linear(spec.d_model, spec.n_heads * spec.head_dim)
        self.k_proj = Linear(spec.d_model, spec.n_kv_heads * spec.head_dim)
        self.v_proj = Linear(spec.d_model, spec.n_kv_heads * spec.head_dim)
        self.o_proj = Linear(spec.n_heads * spec.head_dim, spec.d_model)
        # Held in a tuple so that the one shared table is not registered once per layer.
        self._rope = (rope,)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        n_batch, length, _ = x_BTD.shape

        def heads(projected: Tensor, n_heads: int) -> Tensor:
            return projected.view(n_batch, length, n_heads, self.head_dim).transpose(1, 2)

        rope = self._rope[0]
        q_BHTE = rope(heads(self.q_proj(x_BTD), self.n_heads))
        k_BKTE = rope(heads(self.k_proj(x_BTD), self.n_kv_heads))
        v_BKTE = heads(self.v_proj(x_BTD), self.n_kv_heads)
        y_BHTE = causal_attention(q_BHTE, k_BKTE, v_BKTE)
        return self.o_proj(y_BHTE.transpose(1, 2).reshape(n_batch, length, -1))
