"""Rotary position embedding (arXiv 2104.09864) on half-split pairs (i, i + head_dim / 2).

Frequencies come from `core.tables`, the same numbers that the integer engine rounds, so float and integer model turn alike.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sevenfold.core.errors import RecipeError
from sevenfold.core.tables import rope_frequencies
from sevenfold.recipe.schema import ModelSpec


class Rope(nn.Module):
    """cos and sin tables, made at the first call and as long as the longest sequence seen."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.cos = torch.empty(0)
        self.sin = torch.empty(0)

    def extend(self, length: int, device: torch.device) -> None:
        """Fill the tables for positions below `length`. Raises RecipeError for a scaling that is not defined yet."""
        scaling = self.spec.rope_scaling
        try:
            frequencies = rope_frequencies(
                self.spec.head_dim, self.spec.rope_theta, scaling.kind, scaling.factor
            )
        except ValueError as error:
            raise RecipeError(
                str(error), where="model.rope_scaling.kind", remedy="this version runs none, linear and ntk"
            ) from error
        turn = torch.tensor([float(f) for f in frequencies], dtype=torch.float64)
        angle_TP = torch.outer(torch.arange(length, dtype=torch.float64), turn)
        self.cos = angle_TP.cos().to(device, torch.float32)
        self.sin = angle_TP.sin().to(device, torch.float32)

    def forward(self, x_BHTE: Tensor) -> Tensor:
        """Turn each head's vectors by their position. [B, H, T, E] -> the same."""
        length = x_BHTE.shape[-2]
        if self.cos.shape[0] < length or self.cos.device != x_BHTE.device:
            self.extend(length, x_BHTE.device)
        cos_TP, sin_TP = self.cos[:length], self.sin[:length]
        a, b = x_BHTE.chunk(2, dim=-1)
        return torch.cat([a * cos_TP - b * sin_TP, b * cos_TP + a * sin_TP], dim=-1)
