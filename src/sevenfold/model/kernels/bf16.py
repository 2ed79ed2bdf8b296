"""Operations between the products of a block in BF16, one pass each, on a CPU with AVX512-BF16.

Under autocast PyTorch widens, computes and narrows in separate passes. The kernels of
`native/train/bf16.h` read BF16, compute in float32 and write BF16. They cover norm, gate, residual,
loss, and attention, which rotates queries and keys while it reads them. The residual stream, the
statistics of the norms, softmax, loss and every accumulated gradient are FP32. Sums have one order,
so the number of threads decides no bit. On a processor without such products `is_taken` is false
and PyTorch computes everything.

Shape suffixes: B batch, T sequence, D d_model, H query heads, K key/value heads, E head_dim, P
pairs (E / 2), N rows, V vocabulary.
"""

from __future__ import annotations

import ctypes
import math
from ctypes import c_float, c_int32, c_int64, c_void_p
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sevenfold.model import native
from sevenfold.model.kernels import functions, operators
from sevenfold.model.kernels.causal import shape_of
from sevenfold.model.linear import Linear
from sevenfold.model.native import reduced_dtype

BF16 = torch.bfloat16


class _Heads(ctypes.Structure):
    """s7_bf16_heads of native/train/bf16.h."""

    _fields_ = [("data", c_void_p), ("batch", c_int64), ("token", c_int64), ("head", c_int64)]


class _Rows(ctypes.Structure):
    """s7_bf16_rows of native/train/bf16.h."""

    _fields_ = [("n_rows", c_int64), ("n_columns", c_int64), ("n_threads", c_int32)]


@cache
def is_available() -> bool:
    """Return whether the kernels were built and this processor can run them. They decide bits, so
    manifests record it.
    """
    return native.is_available("s7_bf16_available")


def is_taken(x: Tensor) -> bool:
    """Return whether the kernels compute the next operation on x: on the CPU, under autocast to
    BF16.
    """
    return x.device.type == "cpu" and reduced_dtype(x) == BF16 and is_available()


def _pointer(tensor: Tensor | None) -> c_void_p:
    return c_void_p(None if tensor is None else tensor.data_ptr())


def _rows(tensor: Tensor) -> Any:
    n_columns = tensor.shape[-1]
    return ctypes.byref(_Rows(math.prod(tensor.shape[:-1]), n_columns, native.n_threads()))


def _call_rows(name: str, like: Tensor, *arguments: Tensor | int | float | None) -> None:
    given = (
        c_int64(a) if isinstance(a, int) else c_float(a) if isinstance(a, float) else _pointer(a)
        for a in arguments
    )
    native.call(like.device, name, _rows(like), *given)


def _row_stride(tensor: Tensor) -> int | None:
    """Return the stride of rows whose elements are adjacent; None when rows have no common stride."""
    if tensor.dim() < 2 or tensor.stride(-1) != 1:
        return None
    step = tensor.stride(-2)
    for axis in range(tensor.dim() - 2):
        if tensor.stride(axis) != step * math.prod(tensor.shape[axis + 1 : -1]):
            return None
    return step


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        x = x.contiguous()
        y, inverse = torch.empty_like(x, dtype=BF16), x.new_empty(x.shape[:-1])
        _call_rows("s7_bf16_norm_forward", x, x, weight, eps, y, inverse)
        ctx.save_for_backward(x, weight, inverse)
        return x, y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        beside, grad_y = (g.contiguous() for g in grads)
        grad_x, grad_weight = torch.empty_like(x), torch.empty_like(weight)
        _call_rows("s7_bf16_norm_backward", x, x, weight, inverse, grad_y, beside, grad_x, grad_weight)
        return grad_x, grad_weight, None


def norm_beside(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return x itself and its RMSNorm in BF16. Both gradients of x are added while they are
    computed. x [..., D] float32.
    """
    found: tuple[Tensor, Tensor] = _Norm.apply(x, weight, eps)
    return found


class _Add(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        total = torch.empty_like(x)
        _call_rows("s7_bf16_add", x, x, y, total)
        return total

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        return grads[0], grads[0].to(BF16)


def add(x: Tensor, y: Tensor) -> Tensor:
    """Return x + y, dense, of one shape: float32 + BF16 -> float32."""
    total: Tensor = _Add.apply(x.contiguous(), y.contiguous())
    return total


def accumulate(total: Tensor, y: Tensor) -> None:
    """Add y (BF16) to total (float32) in place, without autograd. Both are dense and have one
    shape.
    """
    _call_rows("s7_bf16_add", total, total, y.contiguous(), total)


def _joined(parts: tuple[Tensor, ...]) -> Tensor:
    """Return the tensors [..., n_i] joined as [..., sum of n_i]. Adjacent tensors in memory are not
    copied.
    """
    first, width = parts[0], sum(p.shape[-1] for p in parts)
    offset, is_one = first.storage_offset(), _row_stride(first) == width
    for part in parts:
        same = part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        is_one = is_one and same and part.stride() == first.stride() and part.storage_offset() == offset
        offset += part.shape[-1]
    if is_one:
        return first.as_strided((*first.shape[:-1], width), first.stride(), first.storage_offset())
    return torch.cat(parts, dim=-1)


class _Projections(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        low = x.to(BF16)
        joined = torch.cat([weight.to(BF16) for weight in weights])
        ctx.save_for_backward(low, joined)
        ctx.sizes, ctx.dtype = [len(weight) for weight in weights], x.dtype
        parts: tuple[Tensor, ...] = F.linear(low, joined).split(ctx.sizes, dim=-1)
        return parts

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        x, weight = ctx.saved_tensors
        grad = _joined(grads)
        grad_weight = (grad.flatten(0, -2).t() @ x.flatten(0, -2)).float()
        return (grad @ weight).to(ctx.dtype), *grad_weight.split(ctx.sizes)


def projections(x: Tensor, *layers: nn.Module) -> tuple[Tensor, ...]:
    """Return the outputs of the layers for x, in BF16, by one product. Gradients of x are added
    inside the products.
    """
    weights = [layer.weight for layer in layers if type(layer) is Linear]
    if len(weights) == len(layers):
        if is_taken(x):
            found: tuple[Tensor, ...] = _Projections.apply(x, *weights)
            return found
        if operators.is_taken(x):
            return functions.project(x, *weights)
    return tuple(layer(x) for layer in layers)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        stride = _row_stride(gate)
        if stride is None or stride != _row_stride(up):
            gate, up, stride = gate.contiguous(), up.contiguous(), gate.shape[-1]
        y = torch.empty(gate.shape, dtype=BF16)
        _call_rows("s7_bf16_swiglu_forward", y, stride, gate, up, y)
        ctx.save_for_backward(gate, up)
        ctx.stride = stride
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        gate, up = ctx.saved_tensors
        width = gate.shape[-1]
        both = torch.empty((*gate.shape[:-1], 2 * width), dtype=BF16)
        out: tuple[Tensor, ...] = both.split(width, dim=-1)
        _call_rows(
            "s7_bf16_swiglu_backward", gate, ctx.stride, gate, up, grads[0].contiguous(), 2 * width, *out
        )
        return out


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(gate) * up, computed in float32. BF16, [..., F] -> [..., F]."""
    y: Tensor = _SwiGLU.apply(gate, up)
    return y


def _heads(tensor_BHTE: Tensor) -> Any:
    return ctypes.byref(
        _Heads(tensor_BHTE.data_ptr(), tensor_BHTE.stride(0), tensor_BHTE.stride(2), tensor_BHTE.stride(1))
    )


def _by_channel(tensor: Tensor) -> Tensor:
    """Return the tensor with adjacent elements along its last axis."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, cos_TP: Tensor, sin_TP: Tensor
    ) -> Tensor:
        n_batch, n_heads, length, head_dim = q_BHTE.shape
        q_BHTE, k_BKTE, v_BKTE = (_by_channel(t) for t in (q_BHTE, k_BKTE, v_BKTE))
        y_BHTE = torch.empty((n_batch, length, n_heads, head_dim), dtype=BF16).transpose(1, 2)
        log_sum_BHT = torch.empty((n_batch, n_heads, length))
        native.call(
            q_BHTE.device, "s7_bf16_attention_forward", ctypes.byref(shape_of(q_BHTE, k_BKTE)),
            *(_heads(t) for t in (q_BHTE, k_BKTE, v_BKTE)), _pointer(cos_TP), _pointer(sin_TP),
            _heads(y_BHTE), _pointer(log_sum_BHT),
        )  # fmt: skip
        ctx.save_for_backward(q_BHTE, k_BKTE, v_BKTE, cos_TP, sin_TP, y_BHTE, log_sum_BHT)
        return y_BHTE

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q_BHTE, k_BKTE, v_BKTE, cos_TP, sin_TP, y_BHTE, log_sum_BHT = ctx.saved_tensors
        n_batch, n_heads, length, head_dim = q_BHTE.shape
        sizes = [n_heads, k_BKTE.shape[1], k_BKTE.shape[1]]
        every = torch.empty((n_batch, length, sum(sizes), head_dim), dtype=BF16)
        out = tuple(part.transpose(1, 2) for part in every.split(sizes, dim=2))
        native.call(
            q_BHTE.device, "s7_bf16_attention_backward", ctypes.byref(shape_of(q_BHTE, k_BKTE)),
            *(_heads(t) for t in (q_BHTE, k_BKTE, v_BKTE)), _pointer(cos_TP), _pointer(sin_TP),
            _heads(y_BHTE), _pointer(log_sum_BHT), _heads(_by_channel(grads[0])), *(_heads(t) for t in out),
        )  # fmt: skip
        return *out, None, None


def attention(q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, cos_TP: Tensor, sin_TP: Tensor) -> Tensor:
    """Return the causal attention of rotated queries and keys, [B, H, T, E] in BF16.

    `causal.causal_attention` is the same in float32.

    Args:
        q_BHTE, k_BKTE, v_BKTE: BF16, as the projections returned them; strided views are not
            copied.
        cos_TP, sin_TP: float32, dense, as `Rope` makes them.

    Raises:
        SevenfoldError: the kernel has no memory for its scratch.
    """
    y_BHTE: Tensor = _Attention.apply(q_BHTE, k_BKTE, v_BKTE, cos_TP, sin_TP)
    return y_BHTE


def cross_entropy(logits_NV: Tensor, target_N: Tensor, counted_N: Tensor | None) -> Tensor:
    """Return the losses in nats, [N] float32, and replace the logits (BF16, dense) by their
    gradients. Both are multiplied by `counted`.
    """
    loss_N = torch.empty(len(logits_NV))
    _call_rows("s7_bf16_cross_entropy", logits_NV, logits_NV, target_N, counted_N, loss_N)
    return loss_N
