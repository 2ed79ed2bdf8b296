"""SwiGLU feed-forward (arXiv 2002.05202): one network, or one for each expert, chosen by the text
of the token (A3).

Shape suffixes: B batch, T sequence, D d_model, N tokens (B * T flattened).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sevenfold.model.kernels import bf16, functions, operators
from sevenfold.model.linear import Linear


class FeedForward(nn.Module):
    """One network: down(silu(gate(x)) * up(x))."""

    def __init__(self, d_model: int, d_ffn: int) -> None:
        super().__init__()
        self.gate_proj = Linear(d_model, d_ffn)
        self.up_proj = Linear(d_model, d_ffn)
        self.down_proj = Linear(d_ffn, d_model)

    def forward(self, x: Tensor, _experts_BT: Tensor | None = None) -> Tensor:
        """Map [..., D] -> [..., D]. Every token uses the same network."""
        gate, up = bf16.projections(x, self.gate_proj, self.up_proj)
        if bf16.is_taken(x):
            hidden = bf16.swiglu(gate, up)
        else:
            hidden = functions.gated(gate, up) if operators.is_taken(gate) else F.silu(gate) * up
        y: Tensor = self.down_proj(hidden)
        return y


class RoutedFeedForward(nn.Module):
    """One network for each expert. Each token uses exactly one, without gates, noise or capacity."""

    def __init__(self, d_model: int, d_ffn: int, n_experts: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(FeedForward(d_model, d_ffn) for _ in range(n_experts))

    def forward(self, x_BTD: Tensor, experts_BT: Tensor | None = None) -> Tensor:
        """Map x [B, T, D], experts [B, T] int64 -> [B, T, D].

        Raises ValueError without `experts_BT`.
        """
        if experts_BT is None:
            raise ValueError("a routed feed-forward needs the expert of each token")
        x_ND, expert_N = x_BTD.flatten(0, 1), experts_BT.flatten()
        if operators.is_taken(x_ND):
            return self._sorted(x_ND, expert_N).view_as(x_BTD)
        out_ND = torch.zeros_like(x_ND)
        for index, expert in enumerate(self.experts):
            rows = torch.nonzero(expert_N == index).squeeze(1)
            # Rows are unique, so neither the backward of the gather nor the copy adds in an order
            # that could vary. Under autocast an expert returns BF16, and the sum with the residual
            # is FP32.
            out_ND = out_ND.index_copy(0, rows, expert(x_ND.index_select(0, rows)).to(out_ND.dtype))
        return out_ND.view_as(x_BTD)

    def _sorted(self, x_ND: Tensor, expert_N: Tensor) -> Tensor:
        """Return the tokens in the order of their experts, and the inverse order. Only copies are
        made, so no gradient is added to another.
        """
        order = torch.argsort(expert_N, stable=True)
        inverse = torch.argsort(order)
        counts = torch.bincount(expert_N, minlength=len(self.experts)).tolist()
        parts = functions.permute(x_ND, order, inverse).split(counts)
        out = torch.cat([expert(part) for expert, part in zip(self.experts, parts, strict=True)])
        return functions.permute(out, inverse, order)
