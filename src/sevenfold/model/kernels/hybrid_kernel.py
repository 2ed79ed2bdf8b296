"""Hybrid attention under specs/training-arithmetic.md: the kernel of `native/train`, with
gradients.

One function goes from projections to outputs. Queries and keys are used twice (rotated in the
window, unrotated for summaries), and autograd would add their gradients with PyTorch.

Shape suffixes: B batch, H query heads, K key/value heads, T sequence, E head_dim, Q scores (2 * K),
P pairs.
"""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int32, c_void_p
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sevenfold.model import native
from sevenfold.model.kernels import operators
from sevenfold.model.kernels.causal import AttentionShape, shape_of, whole_lanes
from sevenfold.model.kernels.functions import Segments, documents
from sevenfold.model.kernels.observe import observed

# The kernel counts positions up to this number, so no document is longer.
_MAX_POSITIONS = 1 << 20


class HybridConstants(NamedTuple):
    """The numbers of specs/attention.md, section 3. `temper` multiplies the scores of summaries."""

    window: int
    stride: int
    ring: int
    temper: float


class _Shape(ctypes.Structure):
    _fields_ = [
        ("heads", AttentionShape),
        *((name, c_int32) for name in ("window", "stride", "ring")),
        ("temper", c_float),
    ]


class _Arrays(ctypes.Structure):
    _fields_ = [(name, c_void_p) for name in ("q", "q_turned", "k", "k_turned", "v", "score")]


class _Document(NamedTuple):
    """The arrays of one document for the kernel, dense and in whole lanes; score [1, Q, T]."""

    q: Tensor
    q_turned: Tensor
    k: Tensor
    k_turned: Tensor
    v: Tensor
    score: Tensor

    @property
    def arrays(self) -> Any:
        return ctypes.byref(_Arrays(*(t.data_ptr() for t in self)))

    def shape(self, width: int, rule: HybridConstants) -> Any:
        numbers = (min(n, _MAX_POSITIONS) for n in (rule.window, rule.stride, rule.ring))
        return ctypes.byref(_Shape(shape_of(self.q, self.k, width), *numbers, rule.temper))


def _turned(x_BHTE: Tensor, cos_TP: Tensor, sin_TP: Tensor, *, back: bool = False) -> Tensor:
    y = torch.empty(x_BHTE.shape)
    length = x_BHTE.shape[2]
    operators.rotate(x_BHTE, cos_TP[:length], sin_TP[:length], y, back=back)
    return y


def _document(q: Tensor, k: Tensor, v: Tensor, score: Tensor, cos: Tensor, sin: Tensor) -> _Document:
    q, k = q.contiguous(), k.contiguous()
    q_turned, k_turned = (_turned(x, cos, sin) for x in (q, k))
    return _Document(
        q=whole_lanes(q),
        q_turned=whole_lanes(q_turned),
        k=whole_lanes(k),
        k_turned=whole_lanes(k_turned),
        v=whole_lanes(v),
        score=score.squeeze(-1).contiguous(),
    )


def _pointer(x: Tensor) -> c_void_p:
    return c_void_p(x.data_ptr())


@observed(out=("y", "log_sum"))
def attend_hybrid(
    q: Tensor, q_turned: Tensor, k: Tensor, k_turned: Tensor, v: Tensor, score: Tensor,
    y: Tensor, log_sum: Tensor, scaled_dim: int, rule: HybridConstants,
) -> None:  # fmt: skip
    """Write hybrid attention and the logarithms of its sums. Vectors fill whole lanes, of which
    `scaled_dim` channels are not padding.
    """
    one = _Document(q, q_turned, k, k_turned, v, score)
    native.call(
        q.device, "s7_hybrid_forward", one.shape(scaled_dim, rule), one.arrays,
        _pointer(y), _pointer(log_sum),
    )  # fmt: skip


@observed(out=("grad_q", "grad_q_turned", "grad_k", "grad_k_turned", "grad_v", "grad_score"))
def attend_hybrid_slope(
    q: Tensor, q_turned: Tensor, k: Tensor, k_turned: Tensor, v: Tensor, score: Tensor,
    y: Tensor, log_sum: Tensor, grad: Tensor,
    grad_q: Tensor, grad_q_turned: Tensor, grad_k: Tensor, grad_k_turned: Tensor, grad_v: Tensor,
    grad_score: Tensor, scaled_dim: int, rule: HybridConstants,
) -> None:  # fmt: skip
    """Write the gradients of `attend_hybrid`, where `grad` is that of y."""
    one = _Document(q, q_turned, k, k_turned, v, score)
    slopes = _Document(grad_q, grad_q_turned, grad_k, grad_k_turned, grad_v, grad_score)
    native.call(
        q.device, "s7_hybrid_backward", one.shape(scaled_dim, rule), one.arrays,
        _pointer(y), _pointer(log_sum), _pointer(grad), slopes.arrays,
    )  # fmt: skip


class _Hybrid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        *tensors, rule, segments = given
        q, k, v, score, cos, sin = tensors
        width, y_BHTE, log_sums = q.shape[3], torch.empty(q.shape), []
        for part in documents(segments):
            one = _document(part(q), part(k), part(v), part(score), cos, sin)
            y, log_sum = torch.empty_like(one.q), q.new_empty(one.q.shape[:3])
            attend_hybrid(*one, y, log_sum, width, rule)
            part(y_BHTE).copy_(y[..., :width])
            log_sums.append(log_sum)
        ctx.save_for_backward(*tensors, y_BHTE, *log_sums)
        ctx.rule, ctx.segments = rule, segments
        return y_BHTE

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # They are saved once: a recomputed block would not return them again.
        saved = ctx.saved_tensors
        q, k, v, score, cos, sin, y_BHTE = saved[:7]
        width = q.shape[3]
        # The result has the layout of the projections: [B, T, H, E] in memory.
        out = [torch.empty(t.transpose(1, 2).shape).transpose(1, 2) for t in (q, k, v, score)]
        for part, log_sum in zip(documents(ctx.segments), saved[7:], strict=True):
            one = _document(part(q), part(k), part(v), part(score), cos, sin)
            y, grad = (whole_lanes(part(t)) for t in (y_BHTE, grads[0]))
            slopes = _Document(*(torch.empty_like(t) for t in one))
            attend_hybrid_slope(*one, y, log_sum, grad, *slopes, width, ctx.rule)
            found = [
                _both(slopes.q_turned, slopes.q, width, cos, sin),
                _both(slopes.k_turned, slopes.k, width, cos, sin),
                slopes.v[..., :width],
                slopes.score.unsqueeze(-1),
            ]
            for to, slope in zip(out, found, strict=True):
                part(to).copy_(slope)
        return *out, None, None, None, None


def _both(turned: Tensor, plain: Tensor, width: int, cos: Tensor, sin: Tensor) -> Tensor:
    """Return the sum of the gradient through the rotation and the direct gradient."""
    back = _turned(turned[..., :width].contiguous(), cos, sin, back=True)
    return operators.add(back, plain[..., :width].contiguous(), back)


def hybrid_attention(
    q_BHTE: Tensor,
    k_BKTE: Tensor,
    v_BKTE: Tensor,
    score_BQT: Tensor,
    tables: tuple[Tensor, Tensor],
    rule: HybridConstants,
    segments: Segments | None = None,
) -> Tensor:
    """Return hybrid attention (specs/attention.md), [B, H, T, E], FP32 on the CPU.

    Args:
        q_BHTE, k_BKTE, v_BKTE: before rotation. K divides H; query head h uses head h * K // H.
        score_BQT: of each position and key/value head, for its key and then for its value.
        tables: cosine and sine [T, P] of positions from 0.
        rule: window, stride, ring, temper.
        segments: documents of each row, each by itself.

    Raises:
        SevenfoldError: the kernel has no memory for its scratch.
    """
    y: Tensor = _Hybrid.apply(q_BHTE, k_BKTE, v_BKTE, score_BQT.unsqueeze(-1), *tables, rule, segments)
    return y
