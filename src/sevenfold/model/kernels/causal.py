"""Exact causal attention: the kernels of `native/train` on the CPU and on a GPU, that of PyTorch
elsewhere.

The CPU kernel of PyTorch multiplies with MKL. On AMD processors MKL takes its AVX2 path and reaches
70 GFLOP/s on two cores. Our kernel takes 0.3 of the time (dev/LOG.md). Its sums have one order
(specs/training-arithmetic.md), so neither the number of threads nor the instruction set changes a
bit. Vectors that do not fill whole lanes are padded with zeros, which add nothing.

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
from sevenfold.model.kernels.functions import Segments, documents
from sevenfold.model.kernels.observe import observed
from sevenfold.model.native import reduced_dtype


class AttentionShape(ctypes.Structure):
    """s7_attention_shape of native/train/attention.h."""

    _fields_ = [
        (name, c_int32)
        for name in ("n_batch", "n_heads", "n_kv_heads", "length", "head_dim", "n_threads", "scaled_dim")
    ]


def kernel_name() -> str:
    """Return the name of the attention kernel of the CPU. It decides bits, so manifests record it."""
    return "s7" if native.is_available("s7_train_available") else "aten"


def shape_of(q_BHTE: Tensor, k_BKTE: Tensor, scaled_dim: int = 0) -> AttentionShape:
    """Return the shape argument of the attention kernels. `scaled_dim` is E without padding; 0
    means all of E.
    """
    head_dim = q_BHTE.shape[3]
    return AttentionShape(
        *q_BHTE.shape[:2], k_BKTE.shape[1], *q_BHTE.shape[2:], native.n_threads(), scaled_dim or head_dim
    )


def _call(name: str, scaled_dim: int, q_BHTE: Tensor, k_BKTE: Tensor, *tensors: Tensor) -> None:
    pointers = (c_void_p(t.data_ptr()) for t in (q_BHTE, k_BKTE, *tensors))
    native.call(q_BHTE.device, name, ctypes.byref(shape_of(q_BHTE, k_BKTE, scaled_dim)), *pointers)


@observed(out=("y", "log_sum"))
def attend(q: Tensor, k: Tensor, v: Tensor, y: Tensor, log_sum: Tensor, scaled_dim: int) -> None:
    """Write attention and the logarithms of its sums. Vectors fill whole lanes, of which
    `scaled_dim` channels are not padding.
    """
    _call("s7_attention_forward", scaled_dim, q, k, v, y, log_sum)


@observed(out=("grad_q", "grad_k", "grad_v"))
def attend_slope(
    q: Tensor, k: Tensor, v: Tensor, y: Tensor, log_sum: Tensor, grad: Tensor,
    grad_q: Tensor, grad_k: Tensor, grad_v: Tensor, scaled_dim: int,
) -> None:  # fmt: skip
    """Write the gradients of `attend`, where `grad` is that of y."""
    _call("s7_attention_backward", scaled_dim, q, k, v, y, log_sum, grad, grad_q, grad_k, grad_v)


def whole_lanes(x_BHTE: Tensor) -> Tensor:
    """Return x dense, with the last axis padded with zeros to whole lanes."""
    missing = -x_BHTE.shape[-1] % native.LANES
    return F.pad(x_BHTE, (0, missing)) if missing else x_BHTE.contiguous()


class _Causal(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, segments: Segments | None
    ) -> Tensor:
        y_BHTE = q_BHTE.new_empty(q_BHTE.shape)
        log_sums = []
        for part in documents(segments):
            q, k, v = (whole_lanes(part(t)) for t in (q_BHTE, k_BKTE, v_BKTE))
            y, log_sum = torch.empty_like(q), q.new_empty(q.shape[:3])
            attend(q, k, v, y, log_sum, q_BHTE.shape[3])
            if segments is None and y.shape == y_BHTE.shape:
                y_BHTE = y
            else:
                part(y_BHTE).copy_(y[..., : q_BHTE.shape[3]])
            log_sums.append(log_sum)
        ctx.save_for_backward(q_BHTE, k_BKTE, v_BKTE, y_BHTE, *log_sums)
        ctx.segments = segments
        return y_BHTE

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # They are saved once: a recomputed block would not return them again.
        all_saved = ctx.saved_tensors
        saved, y_BHTE, log_sums = all_saved[:3], all_saved[3], all_saved[4:]
        width, grad_y = y_BHTE.shape[3], grads[0]
        # The result has the layout of the projections: [B, T, H, E] in memory.
        out = [t.new_empty(t.transpose(1, 2).shape).transpose(1, 2) for t in saved]
        for part, log_sum in zip(documents(ctx.segments), log_sums, strict=True):
            q, k, v, y, grad = (whole_lanes(part(t)) for t in (*saved, y_BHTE, grad_y))
            found = [torch.empty_like(t) for t in (q, k, v)]
            attend_slope(q, k, v, y, log_sum, grad, found[0], found[1], found[2], width)
            if ctx.segments is None and q.shape == y_BHTE.shape:
                out = found
            else:
                for to, one in zip(out, found, strict=True):
                    part(to).copy_(one[..., :width])
        return *out, None


def is_taken(q_BHTE: Tensor) -> bool:
    """Return whether the kernel computes the attention of these queries: in FP32, and on the CPU
    also under autocast.
    """
    kind = q_BHTE.device.type
    if not (native.fits(q_BHTE.shape[3]) and native.is_available("s7_train_available", kind)):
        return False
    if reduced_dtype(q_BHTE) is not None:
        return kind == "cpu"
    return q_BHTE.dtype == torch.float32


def causal_attention(
    q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, segments: Segments | None = None
) -> Tensor:
    """Return softmax(q k^T / sqrt(E), causal) v, [B, H, T, E].

    Under autocast on the CPU it still computes in FP32, which is faster.

    Args:
        q_BHTE, k_BKTE, v_BKTE: K divides H, and query head h uses key/value head h * K // H.
        segments: lengths of the documents of each row, which are separate; only for the kernel
            (`is_taken`).

    Raises:
        SevenfoldError: the kernel has no memory for its scratch.
    """
    if is_taken(q_BHTE) and all(
        t.dtype == torch.float32 or reduced_dtype(t) is not None for t in (k_BKTE, v_BKTE)
    ):
        y: Tensor = _Causal.apply(*(t.float() for t in (q_BHTE, k_BKTE, v_BKTE)), segments)
        return y
    group = q_BHTE.shape[1] // k_BKTE.shape[1]
    if group > 1:
        k_BKTE, v_BKTE = (torch.repeat_interleave(t, group, dim=1) for t in (k_BKTE, v_BKTE))
    return F.scaled_dot_product_attention(q_BHTE, k_BKTE, v_BKTE, is_causal=True)
