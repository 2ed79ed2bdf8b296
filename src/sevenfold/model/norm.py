"""RMSNorm (arXiv 1910.07467): x / sqrt(mean(x^2) + eps) * weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sevenfold.model.kernels import bf16, functions, operators


class RMSNorm(nn.Module):
    """RMSNorm over the last axis, with one gain for each channel."""

    def __init__(self, d_model: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., D] -> [..., D]. The result is BF16 where `model.kernels.bf16` computes the
        block.
        """
        if bf16.is_taken(x) and x.dtype == torch.float32:
            return self.beside(x)[1]
        if operators.is_taken(x):
            return functions.norm_beside(x, self.weight, self.eps)[1]
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)

    def beside(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return x itself, for the residual stream, and its norm. [..., D] -> twice [..., D]."""
        if bf16.is_taken(x) and x.dtype == torch.float32:
            return bf16.norm_beside(x, self.weight, self.eps)
        if operators.is_taken(x):
            return functions.norm_beside(x, self.weight, self.eps)
        return x, self(x)
