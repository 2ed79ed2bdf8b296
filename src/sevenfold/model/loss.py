"""Cross entropy fused with the head: logits exist for one block at a time, never as [B, T, V].

At 4096 entries the logits and their gradient are most of the memory traffic of a small model. Here
the logits of a block become the loss and then the gradient, in place, and the forward and backward
of the head are one pass. The block order is fixed and every reduction is first done per row, so the
result does not depend on the thread count. (A full `.sum()` would: dev/LOG.md.) Under autocast the
products are BF16. The loss, its gradient and the sum of the gradient of the head over blocks stay
FP32. Where `model.kernels.bf16` has kernels, the logits of a block become their gradients in one
pass in BF16.

In FP32, where `model.kernels.operators` are available, they compute everything, and blocks decide
no bit, because the gradient of the head is one chain through them.

Shape suffixes: N tokens, D d_model, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sevenfold.model.kernels import bf16, operators
from sevenfold.model.linear import product, weight_gradient
from sevenfold.model.native import reduced_dtype

# Tokens in a block. Their logits take 8 MB at 4096 entries, which fits the last-level cache.
BLOCK = 512
# On a GPU a block fills the multiprocessors. Its logits take 128 MB at 4096 entries.
BLOCK_GPU = 8192
# Tokens in a BF16 block; they take the same number of bytes.
BLOCK_BF16 = 1024


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, weight_VD: Tensor, target_N: Tensor, counted_N: Tensor | None
    ) -> Tensor:
        ctx.is_exact = operators.is_taken(x_ND)
        if ctx.is_exact:
            factor_N = x_ND.new_ones(len(x_ND)) if counted_N is None else counted_N.contiguous()
            loss_N, *slopes = slopes_of(x_ND, weight_VD, target_N, factor_N, trained=ctx.needs_input_grad[1])
            ctx.save_for_backward(*slopes)
            return loss_N if counted_N is None else loss_N * counted_N
        kind, taken = reduced_dtype(x_ND) or x_ND.dtype, bf16.is_taken(x_ND)
        with torch.autocast(x_ND.device.type, enabled=False):
            if taken:
                return _fused_bf16(ctx, x_ND.to(kind), weight_VD, target_N.contiguous(), counted_N)
            return _fused(ctx, x_ND.to(kind), weight_VD.to(kind), target_N, counted_N)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        # Only a sum over tokens with one weight (or none) is differentiated, so every row has the
        # same gradient.
        grad_x, grad_weight = ctx.saved_tensors
        if ctx.is_exact:
            factor = float(grads[0][0])
            grad_x = operators.scale(grad_x, factor)
            return grad_x, None if grad_weight is None else operators.scale(grad_weight, factor), None, None
        scale = grads[0][0]
        return grad_x * scale, None if grad_weight is None else grad_weight * scale, None, None


def slopes_of(
    x_ND: Tensor, weight_VD: Tensor, target_N: Tensor, factor_N: Tensor, *, trained: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the losses [N] and the gradients of their sum weighted by `factor_N`: of x and, if it
    is `trained`, of the head.

    It uses `model.kernels.operators`, so `is_taken(x)` must be true, and no autograd.
    """
    x_ND, target_N = x_ND.contiguous(), target_N.contiguous()
    loss_N, grad_x = x_ND.new_empty(len(x_ND)), torch.empty_like(x_ND)
    grad_weight = torch.zeros_like(weight_VD) if trained else None
    size = BLOCK if x_ND.device.type == "cpu" else BLOCK_GPU
    for start in range(0, len(x_ND), size):
        block = slice(start, start + size)
        slope = operators.project(x_ND[block], weight_VD)
        loss_N[block] = operators.losses(slope, target_N[block], factor_N[block])
        operators.input_slope(slope, weight_VD, grad_x[block], is_added=False)
        if grad_weight is not None:
            operators.weight_slope(slope, x_ND[block], grad_weight)
    return loss_N, grad_x, grad_weight


@torch.no_grad()
def token_nats(x_BTD: Tensor, weight_VD: Tensor, target_BT: Tensor) -> Tensor:
    """Return the cross entropies in nats, [B, T] float32, without a gradient.

    The arguments are those of `sequence_losses`.
    """
    x_ND, target_N = x_BTD.detach().flatten(0, 1).contiguous(), target_BT.flatten().contiguous()
    weight = weight_VD.detach()
    if operators.is_taken(x_ND):
        found = [
            operators.losses(operators.project(x_ND[start : start + BLOCK], weight), target, None)
            for start, target in _target_blocks(target_N)
        ]
    else:
        with torch.autocast(x_ND.device.type, enabled=False):
            found = []
            for start, target in _target_blocks(target_N):
                logits = product(x_ND[start : start + BLOCK], weight.to(x_ND.dtype)).float()
                own = logits.gather(1, target[:, None]).squeeze(1)
                found.append(torch.logsumexp(logits, 1) - own)
    return torch.cat(found).view(target_BT.shape)


def _target_blocks(target_N: Tensor) -> list[tuple[int, Tensor]]:
    return [(start, target_N[start : start + BLOCK]) for start in range(0, len(target_N), BLOCK)]


def backward(
    x_BTD: Tensor, weight_VD: Tensor, target_BT: Tensor, counted_BT: Tensor | None, factor: float
) -> list[float]:
    """Run autograd backward from factor * the sum of the losses that count. Return the sum of each
    sequence (nats) in binary64.

    It uses `model.kernels.operators`, so `is_taken(x)` must be true. The arguments are those of
    `sequence_losses`.
    """
    shares = torch.full(target_BT.shape, factor, device=x_BTD.device)
    if counted_BT is not None:
        shares = operators.scale(counted_BT.contiguous(), factor)
    with torch.no_grad():
        loss_N, grad_x, grad_weight = slopes_of(
            x_BTD.flatten(0, 1),
            weight_VD,
            target_BT.flatten(),
            shares.flatten(),
            trained=weight_VD.requires_grad,
        )
    ends = [(x_BTD, grad_x.view_as(x_BTD)), (weight_VD, grad_weight)]
    trained = [end for end in ends if end[0].requires_grad]
    torch.autograd.backward([end for end, _ in trained], [grad for _, grad in trained])
    return operators.nats(loss_N.view(target_BT.shape), counted_BT)


def _fused(ctx: Any, x_ND: Tensor, weight_VD: Tensor, target_N: Tensor, counted_N: Tensor | None) -> Tensor:
    """Return the losses [N] and, for `backward`, both gradients in FP32. Products have the type of
    x.
    """
    grad_x = torch.empty_like(x_ND, dtype=torch.float32)
    # A frozen head (phase 2 of expert stacks) needs no gradient, which saves a third of the work.
    grad_weight = torch.zeros_like(weight_VD, dtype=torch.float32) if ctx.needs_input_grad[1] else None
    loss_N = torch.empty(x_ND.shape[0], dtype=torch.float32, device=x_ND.device)
    for start in range(0, x_ND.shape[0], BLOCK):
        block = slice(start, start + BLOCK)
        target = target_N[block, None]
        logits = product(x_ND[block], weight_VD).float()
        log_sum = torch.logsumexp(logits, 1, keepdim=True)
        loss_N[block] = (log_sum - logits.gather(1, target)).squeeze(1)
        slope = logits.sub_(log_sum).exp_()
        slope.scatter_(1, target, slope.gather(1, target) - 1.0)
        if counted_N is not None:
            slope.mul_(counted_N[block, None])
        slope = slope.to(x_ND.dtype)
        grad_x[block] = product(slope, weight_VD.t()).float()
        if grad_weight is not None and x_ND.dtype == torch.float32:
            grad_weight += weight_gradient(slope, x_ND[block])
        elif grad_weight is not None:
            grad_weight.add_(slope.t() @ x_ND[block])
    ctx.save_for_backward(grad_x, grad_weight)
    return loss_N if counted_N is None else loss_N * counted_N


def _fused_bf16(
    ctx: Any, x_ND: Tensor, weight_VD: Tensor, target_N: Tensor, counted_N: Tensor | None
) -> Tensor:
    """Return `_fused` by the BF16 kernels. Logits become their gradients in BF16, and blocks are
    larger because that is faster.
    """
    grad_x, low = torch.empty_like(x_ND), weight_VD.to(x_ND.dtype)
    grad_weight = torch.zeros_like(weight_VD) if ctx.needs_input_grad[1] else None
    losses = []
    for start in range(0, len(x_ND), BLOCK_BF16):
        block = slice(start, start + BLOCK_BF16)
        slope = product(x_ND[block], low)
        losses.append(
            bf16.cross_entropy(slope, target_N[block], None if counted_N is None else counted_N[block])
        )
        grad_x[block] = product(slope, low.t())
        if grad_weight is not None:
            bf16.accumulate(grad_weight, slope.t() @ x_ND[block])
    ctx.save_for_backward(grad_x, grad_weight)
    return torch.cat(losses)


def sequence_losses(
    x_BTD: Tensor, weight_VD: Tensor, target_BT: Tensor, counted_BT: Tensor | None = None
) -> Tensor:
    """Return the sum of the token losses (nats) of each sequence, [B].

    Args:
        x_BTD: final states, float32 or BF16.
        weight_VD: head.
        target_BT: int64 next tokens.
        counted_BT: float32, 1 where a token counts and 0 where it does not; None when all do.
    """
    counted_N = None if counted_BT is None else counted_BT.flatten()
    loss_N: Tensor = _HeadLoss.apply(x_BTD.flatten(0, 1), weight_VD, target_BT.flatten(), counted_N)
    return loss_N.view(target_BT.shape).sum(1)
