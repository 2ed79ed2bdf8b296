"""Cross entropy of the head, fused: logits live one block at a time and never as [B, T, V].

At 4096 entries the logits and their gradient are most of a small model's memory traffic. Here each block's logits become the
loss, then the gradient, in place; forward and backward of the head are one pass. The block order is fixed and every
reduction is per row first, so the result does not depend on the thread count (a full `.sum()` does: dev/LOG.md).

Shape suffixes: N tokens, D d_model, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sevenfold.model.linear import product, weight_gradient

BLOCK = 512  # tokens whose logits are alive at once: 8 MB at 4096 entries, inside the last-level cache


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_VD: Tensor, target_N: Tensor) -> Tensor:
        grad_x, grad_weight = torch.empty_like(x_ND), torch.zeros_like(weight_VD)
        loss_N = torch.empty(x_ND.shape[0], dtype=x_ND.dtype, device=x_ND.device)
        for start in range(0, x_ND.shape[0], BLOCK):
            block = slice(start, start + BLOCK)
            target = target_N[block, None]
            logits = product(x_ND[block], weight_VD)
            log_sum = torch.logsumexp(logits, 1, keepdim=True)
            loss_N[block] = (log_sum - logits.gather(1, target)).squeeze(1)
            slope = logits.sub_(log_sum).exp_()
            slope.scatter_(1, target, slope.gather(1, target) - 1.0)
            grad_x[block] = product(slope, weight_VD.t())
            grad_weight += weight_gradient(slope, x_ND[block])
        ctx.save_for_backward(grad_x, grad_weight)
        return loss_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        # Only a mean over equally weighted tokens is differentiated, so every row's slope is the same number.
        grad_x, grad_weight = ctx.saved_tensors
        scale = grads[0][0]
        return grad_x * scale, grad_weight * scale, None


def head_loss(x_BTD: Tensor, weight_VD: Tensor, target_BT: Tensor, n_tokens: int) -> Tensor:
    """Sum of the token losses (nats) over `n_tokens`: the mean when the batch has that many tokens.

    Args:
        x_BTD: final states, float32.  weight_VD: head.  target_BT: int64 next tokens.
        n_tokens: tokens of the whole step, so that micro-batches add up to its mean.
    """
    loss_N = _HeadLoss.apply(x_BTD.flatten(0, 1), weight_VD, target_BT.flatten())
    return (loss_N.view(target_BT.shape).sum(1) / n_tokens).sum()
