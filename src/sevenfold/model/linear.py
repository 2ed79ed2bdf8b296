"""Bias-free projections, in FP32 through oneDNN where PyTorch has it, in BF16 under autocast.

On AMD processors PyTorch's default CPU matrix product takes an AVX2 path; oneDNN takes AVX-512 and runs the same product
2.2 times as fast (dev/LOG.md). Results do not depend on the thread count: each output element is summed by one thread in one order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


ONEDNN = _has_onednn()


def backend_name() -> str:
    """Which matrix product computes FP32 projections on the CPU; it decides bits, so manifests record it."""
    return "onednn" if ONEDNN else "aten"


def reduced_dtype(x: Tensor) -> torch.dtype | None:
    """The type that autocast computes products in where x is; None outside autocast."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.T without autograd. x [..., I], weight [O, I] (strided views are fine) -> [..., O]."""
    if ONEDNN and x.device.type == "cpu" and x.dtype == torch.float32:
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return F.linear(x, weight)


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """grad.T @ x without autograd. grad [..., O], x [..., I] -> [O, I]. The copy of grad's transpose pays: 1.6 times as fast."""
    if grad.numel() == 0:  # an expert that no token of the batch goes to; oneDNN has no product over nothing
        return grad.new_zeros(grad.shape[-1], x.shape[-1])
    return product(grad.flatten(0, -2).t().contiguous(), x.flatten(0, -2).t())


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        return product(grad, weight.t()), weight_gradient(grad, x)


class Linear(nn.Module):
    """y = x @ weight.T; weight [n_out, n_in], no bias."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in))

    def forward(self, x: Tensor) -> Tensor:
        """[..., n_in] -> [..., n_out]."""
        if x.device.type == "cpu" and x.dtype == torch.float32 and reduced_dtype(x) is None:
            return _Linear.apply(x, self.weight)
        return F.linear(x, self.weight)
