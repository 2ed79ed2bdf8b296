"""The operators of `model.kernels.operators` with gradients, for autograd.

Where a tensor is used twice, autograd adds its gradients, and it adds with PyTorch. A tensor that
is used twice is therefore handled by one function here: the residual stream beside its norm, the
input of several projections, and an embedding that is also the head.

Shape suffixes: as in `model.kernels.operators`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sevenfold.model.kernels import operators

Segments = list[
    list[int]
    # For each row, the lengths of its documents in order. They sum to the length of the row.
]
Gradients = tuple[Tensor | None, ...]


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        x = x.contiguous()
        ctx.save_for_backward(x, *weights)
        return tuple(operators.project(x, weight) for weight in weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Gradients:
        x, *weights = ctx.saved_tensors
        grad_x = None
        if ctx.needs_input_grad[0]:
            for grad, weight in zip(grads, weights, strict=True):
                grad_x = operators.input_slope(grad, weight, grad_x)
        slopes = (
            operators.weight_slope(grad, x) if is_needed else None
            for grad, is_needed in zip(grads, ctx.needs_input_grad[1:], strict=True)
        )
        return grad_x, *slopes


def project(x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    """Return x @ weight.T for each weight [O, I]. The gradient of x is one chain through all of
    them. [..., I] -> [..., O] each.
    """
    found: tuple[Tensor, ...] = _Project.apply(x, *weights)
    return found


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        x = x.contiguous()
        y, scale = operators.norm(x, gain, eps)
        ctx.save_for_backward(x, gain, scale)
        ctx.set_materialize_grads(False)
        return x, y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Gradients:
        x, gain, scale = ctx.saved_tensors
        beside, grad = (None if g is None else g.contiguous() for g in grads)
        if grad is None:
            return beside, None, None
        is_trained = ctx.needs_input_grad[1]
        return *operators.norm_slope(x, gain, scale, grad, beside, is_trained=is_trained), None


def norm_beside(x: Tensor, gain: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return x itself and its RMSNorm. Both gradients of x are added while they are computed. [...,
    D] -> twice [..., D].
    """
    found: tuple[Tensor, Tensor] = _Norm.apply(x, gain, eps)
    return found


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate, up)
        return operators.gate(gate, up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Gradients:
        gate, up = ctx.saved_tensors
        return operators.gate_slope(gate, up, grads[0].contiguous())


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(gate) * up. [..., F] -> [..., F]."""
    y: Tensor = _Gate.apply(gate, up)
    return y


class _Residual(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        return operators.add(x.contiguous(), y.contiguous())

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Gradients:
        return grads[0], grads[0]


def residual(x: Tensor, y: Tensor) -> Tensor:
    """Return x + y, of one shape."""
    total: Tensor = _Residual.apply(x, y)
    return total


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float, key: int, stream: int) -> Tensor:
        ctx.draws = share, key, stream
        return operators.dropout(x.contiguous(), *ctx.draws)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Gradients:
        return operators.dropout(grads[0].contiguous(), *ctx.draws), None, None, None


def dropout(x: Tensor, share: float, key: int, stream: int) -> Tensor:
    """Return x with a share of its elements set to zero and the others divided by the remaining
    share. Key, stream and position decide which.
    """
    y: Tensor = _Dropout.apply(x, share, key, stream)
    return y


class _Embed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(ids.contiguous())
        ctx.shape = table.shape
        ctx.set_materialize_grads(False)
        return torch.nn.functional.embedding(ids, table), table.view_as(table)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Gradients:
        (ids,) = ctx.saved_tensors
        grad, head = grads
        if grad is None or not ctx.needs_input_grad[1]:
            return None, head
        table = grad.new_zeros(ctx.shape) if head is None else head.clone()
        operators.scatter_add(ids, grad.contiguous(), table)
        return None, table


def embed(ids: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of the table, and the table for the head. Its gradient begins with that of
    the head, and those of the tokens are added.
    """
    found: tuple[Tensor, Tensor] = _Embed.apply(ids, table)
    return found


class _Permute(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Gradients:
        return grads[0].index_select(0, ctx.saved_tensors[0]), None, None


def permute(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """Return x[order], for an order that names each row once. `inverse` is the inverse order."""
    y: Tensor = _Permute.apply(x, order, inverse)
    return y


@dataclass(frozen=True, slots=True)
class _Part:
    row: int
    start: int
    length: int

    def __call__(self, tensor: Tensor) -> Tensor:
        return tensor[self.row : self.row + 1, :, self.start : self.start + self.length]


def documents(segments: Segments | None) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yield the views of each document of any [B, H, T, E] tensor, in order; without segments, the
    tensor itself.
    """
    if segments is None:
        yield lambda tensor: tensor
        return
    for row, lengths in enumerate(segments):
        start = 0
        for length in lengths:
            yield _Part(row, start, length)
            start += length


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, segments: Segments | None) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.segments = segments
        x = x if x.stride(-1) == 1 else x.contiguous()
        y = x.new_empty(x.shape)
        for part in documents(segments):
            operators.rotate(part(x), cos, sin, part(y))
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Gradients:
        (grad,), (cos, sin) = grads, ctx.saved_tensors
        grad = grad if grad.stride(-1) == 1 else grad.contiguous()
        n_batch, n_heads, length, head_dim = grad.shape
        # The result has the layout in which the projections returned x, so their products read it
        # without a copy.
        to = grad.new_empty(n_batch, length, n_heads, head_dim).transpose(1, 2)
        for part in documents(ctx.segments):
            operators.rotate(part(grad), cos, sin, part(to), back=True)
        return to, None, None, None


def rotated(x_BHTE: Tensor, cos_TP: Tensor, sin_TP: Tensor, segments: Segments | None = None) -> Tensor:
    """Return the vectors of each head, rotated by their position in the document. -> dense [B, H,
    T, E].
    """
    y: Tensor = _Rotate.apply(x_BHTE, cos_TP, sin_TP, segments)
    return y
