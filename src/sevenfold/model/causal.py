"""Exact causal attention: the kernel of `native/train` on the CPU, PyTorch's own elsewhere.

PyTorch's CPU kernel multiplies with MKL, whose AVX2 path on AMD processors leaves it at 70 GFLOP/s on two cores; the kernel does
the same work in 0.3 of the time (dev/LOG.md). Its sums have one order (native/train/kernels.cpp), so neither threads nor the
processor's instruction set change a bit.

Shape suffixes: B batch, H query heads, K key/value heads, T sequence, E head_dim.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_void_p
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sevenfold.model import native
from sevenfold.model.linear import reduced_dtype


class Shape(ctypes.Structure):
    """s7_attention_shape of native/train/attention.h."""

    _fields_ = [
        (name, c_int32) for name in ("n_batch", "n_heads", "n_kv_heads", "length", "head_dim", "n_threads")
    ]


def kernel_name() -> str:
    """Which attention runs on the CPU; it decides bits, so manifests record it."""
    return "s7" if native.is_available("s7_train_available") else "aten"


def shape_of(q_BHTE: Tensor, k_BKTE: Tensor) -> Shape:
    """What the attention kernels are told of their arrays."""
    return Shape(*q_BHTE.shape[:2], k_BKTE.shape[1], *q_BHTE.shape[2:], native.n_threads())


def _call(name: str, q_BHTE: Tensor, k_BKTE: Tensor, *tensors: Tensor) -> None:
    pointers = (c_void_p(t.data_ptr()) for t in (q_BHTE, k_BKTE, *tensors))
    native.call(name, ctypes.byref(shape_of(q_BHTE, k_BKTE)), *pointers)


class _Causal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor) -> Tensor:
        y_BHTE, log_sum_BHT = torch.empty_like(q_BHTE), q_BHTE.new_empty(q_BHTE.shape[:3])
        _call("s7_attention_forward", q_BHTE, k_BKTE, v_BKTE, y_BHTE, log_sum_BHT)
        ctx.save_for_backward(q_BHTE, k_BKTE, v_BKTE, y_BHTE, log_sum_BHT)
        return y_BHTE

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        saved = ctx.saved_tensors
        out = tuple(torch.empty_like(t) for t in saved[:3])
        _call("s7_attention_backward", *saved, grads[0].contiguous(), *out)
        return out


def causal_attention(q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(E), causal) v, [B, H, T, E]; under autocast on the CPU in FP32 all the same: it is faster.

    Args:
        q_BHTE, k_BKTE, v_BKTE: K divides H, and query head h uses key/value head h * K // H.

    Raises:
        SevenfoldError: the kernel has no memory for its scratch.
    """
    head_dim = q_BHTE.shape[3]
    tensors = (q_BHTE, k_BKTE, v_BKTE)
    reduced = reduced_dtype(q_BHTE) is not None
    taken = all(t.device.type == "cpu" and (reduced or t.dtype == torch.float32) for t in tensors)
    if taken and native.fits(head_dim) and kernel_name() == "s7":
        y: Tensor = _Causal.apply(*(t.float().contiguous() for t in tensors))
        return y
    group = q_BHTE.shape[1] // k_BKTE.shape[1]
    if group > 1:
        k_BKTE, v_BKTE = (torch.repeat_interleave(t, group, dim=1) for t in (k_BKTE, v_BKTE))
    return F.scaled_dot_product_attention(q_BHTE, k_BKTE, v_BKTE, is_causal=True)
