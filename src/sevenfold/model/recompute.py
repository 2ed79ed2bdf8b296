"""Activation checkpointing (arXiv 1604.06174): a block keeps only its input, and backward computes
the rest again.

The same kernels run on the same values, with the same random state, so no bit of a gradient
changes. Memory: one [B, T, D] for each layer instead of everything that `recipe.cost` counts. Cost:
one more forward of each block, which is a third of a step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sevenfold.model.kernels.functions import Segments


def recomputed(
    block: nn.Module, x_BTD: Tensor, experts_BT: Tensor | None, segments: Segments | None
) -> Tensor:
    """Return block(x, experts, segments) without storing what backward needs. [B, T, D] -> [B, T,
    D].
    """
    if not torch.is_grad_enabled():
        y_BTD: Tensor = block(x_BTD, experts_BT, segments)
    else:
        y_BTD = checkpoint(block, x_BTD, experts_BT, segments, use_reentrant=False)
    return y_BTD
