"""Rotary position embedding (arXiv 2104.09864) on half-split pairs (i, i + head_dim / 2), plain or
scaled.

Frequencies come from `core.numbers.tables`. The integer engine rounds the same numbers, so the
float and the integer model rotate alike.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sevenfold.model.kernels import functions, operators
from sevenfold.recipe.rotation import model_frequencies, temperature
from sevenfold.recipe.schema import ModelSpec, RopeScaling


class Rope(nn.Module):
    """Tables of cos and sin, filled at the first call and as long as the longest sequence so far.

    `temperature` multiplies both (YaRN), so the scores of rotated queries and keys grow by its
    square.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.use(spec.rope_scaling)

    def use(self, scaling: RopeScaling) -> None:
        """Use another scaling from now on, in the next stage of a context curriculum."""
        self.scaling = scaling
        self.temperature = temperature(scaling)
        self.cos = torch.empty(0)
        self.sin = torch.empty(0)

    def extend(self, length: int, device: torch.device) -> None:
        """Fill the tables for positions below `length`."""
        turns = model_frequencies(self.spec, self.scaling)
        if device.type == "cpu" and operators.is_available():
            found = operators.rotation_tables([float(f) for f in turns], self.temperature, length)
            self.cos, self.sin = (table.to(device) for table in found)
            return
        turn = torch.tensor([float(f) for f in turns], dtype=torch.float64)
        angle_TP = torch.outer(torch.arange(length, dtype=torch.float64), turn)
        self.cos = (angle_TP.cos() * self.temperature).to(device, torch.float32)
        self.sin = (angle_TP.sin() * self.temperature).to(device, torch.float32)

    def tables(self, x_BHTE: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cosine and sine of the positions of x, [T, E / 2] each."""
        length = x_BHTE.shape[-2]
        if self.cos.shape[0] < length or self.cos.device != x_BHTE.device:
            self.extend(length, x_BHTE.device)
        return self.cos[:length], self.sin[:length]

    def forward(self, x_BHTE: Tensor) -> Tensor:
        """Rotate the vectors of each head by their position. [B, H, T, E] -> the same shape,
        float32.
        """
        cos_TP, sin_TP = self.tables(x_BHTE)
        if operators.is_taken(x_BHTE):
            return functions.rotated(x_BHTE, cos_TP, sin_TP)
        # This is cast once and not for each product, because x is BF16 under autocast.
        a, b = x_BHTE.float().chunk(2, dim=-1)
        return torch.cat([a * cos_TP - b * sin_TP, b * cos_TP + a * sin_TP], dim=-1)
