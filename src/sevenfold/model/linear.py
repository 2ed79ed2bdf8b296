"""Bias-free projections: in FP32 on the CPU by `model.kernels.functions`, in BF16 under autocast.

Without our kernels, FP32 uses oneDNN if PyTorch has it. On AMD processors the default matrix
product of PyTorch takes an AVX2 path. oneDNN takes AVX-512 and is 2.2 times as fast (dev/LOG.md).
Results do not depend on the thread count, because one thread sums each output element in one order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sevenfold.model.kernels import functions, operators
from sevenfold.model.native import reduced_dtype


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


ONEDNN = _has_onednn()


def backend_name() -> str:
    """Return the name of the matrix product of FP32 projections on the CPU. It decides bits, so
    manifests record it.
    """
    if operators.is_available():
        return "s7"
    return "onednn" if ONEDNN else "aten"


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Return x @ weight.T without autograd. x [..., I], weight [O, I] (strided views are allowed)
    -> [..., O].
    """
    if operators.is_taken(x):
        return operators.project(x, weight)
    if ONEDNN and x.device.type == "cpu" and x.dtype == torch.float32:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
        return y
    return F.linear(x, weight)


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """Return grad.T @ x without autograd. grad [..., O], x [..., I] -> [O, I]. Copying the
    transpose of grad makes it 1.6 times as fast.
    """
    # No token of the batch uses this expert, and oneDNN has no product of empty matrices.
    if grad.numel() == 0:
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
    """A projection y = x @ weight.T with weight [n_out, n_in] and no bias."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in))

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., n_in] -> [..., n_out]."""
        if operators.is_taken(x):
            return functions.project(x, self.weight)[0]
        if x.device.type == "cpu" and x.dtype == torch.float32 and reduced_dtype(x) is None:
            y: Tensor = _Linear.apply(x, self.weight)
            return y
        return F.linear(x, self.weight)
