"""The decoder: embedding, pre-norm blocks, final norm, tied head. It is dense, token-routed, or a
trunk with expert stacks.

Parameter names are the record names of the artifact (specs/arithmetic.md, section 4). Shape
suffixes: B batch, T sequence, D d_model, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sevenfold.model.attention import Attention, document_segments
from sevenfold.model.feed_forward import FeedForward, RoutedFeedForward
from sevenfold.model.hybrid import HybridAttention
from sevenfold.model.kernels import bf16, functions, operators
from sevenfold.model.kernels.functions import Segments
from sevenfold.model.linear import Linear, product
from sevenfold.model.norm import RMSNorm
from sevenfold.model.recompute import recomputed
from sevenfold.model.rope import Rope
from sevenfold.recipe.schema import ExpertStacks, ModelSpec, TokenRouted


def residual(x_BTD: Tensor, y_BTD: Tensor) -> Tensor:
    """Return x + y, float32."""
    if operators.is_taken(x_BTD) and x_BTD.dtype == y_BTD.dtype:
        return functions.residual(x_BTD, y_BTD)
    is_mixed = (x_BTD.dtype, y_BTD.dtype) == (torch.float32, torch.bfloat16)
    return bf16.add(x_BTD, y_BTD) if is_mixed and bf16.is_taken(x_BTD) else x_BTD + y_BTD


class Block(nn.Module):
    """One block: x + attention(norm(x)), then x + feed_forward(norm(x)). D1 fixes this order.

    `number` is the position of the block on the path through the model. It names the random streams
    of its dropout.
    """

    def __init__(self, spec: ModelSpec, rope: Rope, d_ffn: int, n_experts: int, number: int) -> None:
        super().__init__()
        self.share, self.number = spec.dropout, number
        self.attn_norm = RMSNorm(spec.d_model, spec.norm_eps)
        self.attn = Attention(spec, rope) if spec.attention == "causal" else HybridAttention(spec, rope)
        self.ffn_norm = RMSNorm(spec.d_model, spec.norm_eps)
        self.ffn: nn.Module = (
            RoutedFeedForward(spec.d_model, d_ffn, n_experts)
            if n_experts
            else FeedForward(spec.d_model, d_ffn)
        )

    def _dropped(self, x_BTD: Tensor, branch: int) -> Tensor:
        """Return the branch after dropout. The key is the seed with which the micro-batch began."""
        if not self.training or not self.share:
            return x_BTD
        if operators.is_taken(x_BTD):
            return functions.dropout(x_BTD, self.share, torch.initial_seed(), 2 * self.number + branch)
        return F.dropout(x_BTD, self.share)

    def forward(self, x_BTD: Tensor, experts_BT: Tensor | None, segments: Segments | None = None) -> Tensor:
        """Map [B, T, D] -> [B, T, D]."""
        x_BTD, normed_BTD = self.attn_norm.beside(x_BTD)
        x_BTD = residual(x_BTD, self._dropped(self.attn(normed_BTD, segments), 0))
        x_BTD, normed_BTD = self.ffn_norm.beside(x_BTD)
        return residual(x_BTD, self._dropped(self.ffn(normed_BTD, experts_BT), 1))


def _blocks(
    spec: ModelSpec, rope: Rope, n_layers: int, d_ffn: int, n_experts: int = 0, first: int = 0
) -> nn.ModuleDict:
    return nn.ModuleDict(
        {f"{i:02d}": Block(spec, rope, d_ffn, n_experts, first + i) for i in range(n_layers)}
    )


class _Stack(nn.Module):
    """The layers of one domain expert, after the trunk (B1)."""

    def __init__(self, layers: nn.ModuleDict) -> None:
        super().__init__()
        self.layers = layers


class Transformer(nn.Module):
    """A model built from a ModelSpec alone. `initialize` or a checkpoint sets its weights."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.rope = rope = Rope(spec)
        self.embedding = nn.Embedding(spec.vocab_size, spec.d_model)
        routed = len(spec.moe.experts) if isinstance(spec.moe, TokenRouted) else 0
        self.layers = _blocks(spec, rope, spec.n_layers, spec.d_ffn, routed)
        if isinstance(spec.moe, ExpertStacks):
            moe = spec.moe
            self.experts = nn.ModuleList(
                _Stack(_blocks(spec, rope, moe.n_layers, moe.d_ffn, first=spec.n_layers)) for _ in moe.experts
            )
        self.final_norm = RMSNorm(spec.d_model, spec.norm_eps)
        if not spec.tied:
            self.lm_head = Linear(spec.d_model, spec.vocab_size)
        # Expert of each token id; not a weight. The router table of the tokenizer sets it before
        # the first call.
        self.expert_of_token: Tensor | None = None
        # Token id with which each document begins. Attention then stays inside documents. None: a
        # window is one document.
        self.document_start: int | None = None
        # Keep only the input of each block, and compute the block again in backward (activation
        # checkpointing).
        self.recompute = False

    @property
    def head_weight(self) -> Tensor:
        """Return the head [V, D], which is the embedding when they are tied."""
        return self.embedding.weight if self.spec.tied else self.lm_head.weight

    def hidden(self, ids_BT: Tensor, stack: int | None = None) -> Tensor:
        """Return the normalised states before the head, [B, T, D]; see `states`."""
        return self.states(ids_BT, stack)[0]

    def _embedded(self, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
        table = self.embedding.weight
        if not operators.is_taken(table):
            return self.embedding(ids_BT), self.head_weight
        x_BTD, same = functions.embed(ids_BT, table)
        return x_BTD, same if self.spec.tied else self.head_weight

    def states(self, ids_BT: Tensor, stack: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the normalised states before the head [B, T, D], and the head [V, D] to apply to
        them.

        When they are tied, the gradient of the embedding includes that of the head. This head makes
        it one sum in one order.

        Args:
            ids_BT: int64 token ids.
            stack: which domain's layers follow the trunk (expert stacks only); None runs the trunk
                alone.
        """
        routed = isinstance(self.spec.moe, TokenRouted)
        if routed and self.expert_of_token is None:
            raise ValueError("set expert_of_token from the tokenizer's router table first")
        experts_BT = (
            self.expert_of_token.to(ids_BT.device)[ids_BT]
            if routed and self.expert_of_token is not None
            else None
        )
        segments = None if self.document_start is None else document_segments(ids_BT, self.document_start)
        x_BTD, head_VD = self._embedded(ids_BT)
        blocks = list(self.layers.values())
        if stack is not None:
            blocks += cast("_Stack", self.experts[stack]).layers.values()
        for block in blocks:
            inputs = (x_BTD, experts_BT, segments)
            x_BTD = recomputed(block, *inputs) if self.recompute else block(*inputs)
        return self.final_norm(x_BTD), head_VD

    def forward(self, ids_BT: Tensor, stack: int | None = None) -> Tensor:
        """Return the logits [B, T, V] float32, for evaluation; training uses `loss.sequence_losses`
        on `states`.
        """
        hidden_BTD, head_VD = self.states(ids_BT, stack)
        if hidden_BTD.requires_grad:
            return hidden_BTD @ head_VD.t()
        return product(hidden_BTD, head_VD)

    def _initial(
        self, std: float, draw: Callable[[int, torch.Size, float], Tensor]
    ) -> Iterator[tuple[str, Tensor]]:
        depth = self.spec.n_layers + (
            self.spec.moe.n_layers if isinstance(self.spec.moe, ExpertStacks) else 0
        )
        for number, (name, parameter) in enumerate(sorted(self.named_parameters())):
            if parameter.dim() == 1:
                yield name, torch.ones(parameter.shape)
                continue
            branch_end = name.endswith(("o_proj.weight", "down_proj.weight"))
            width = std / math.sqrt(2 * depth) if branch_end else std
            yield name, draw(number, parameter.shape, width)

    def initial(self, generator: torch.Generator, std: float) -> Iterator[tuple[str, Tensor]]:
        """Return the initial weights in name order, float32, one at a time, so that a rank can keep
        only its rows. They are normal; projections that end a residual branch are scaled by 1 /
        sqrt(2 * depth); gains are 1.
        """

        def draw(_number: int, shape: torch.Size, width: float) -> Tensor:
            return torch.empty(shape).normal_(0.0, width, generator=generator)

        return self._initial(std, draw)

    def drawn(self, key: int, std: float) -> Iterator[tuple[str, Tensor]]:
        """Return the same weights from the generator of the training law: one stream under `key`
        for each parameter, in name order.
        """

        def draw(number: int, shape: torch.Size, width: float) -> Tensor:
            return operators.normal(shape, key, number, width)

        return self._initial(std, draw)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator, std: float) -> None:
        """Set the weights to those of `initial`."""
        for name, value in self.initial(generator, std):
            self.get_parameter(name).copy_(value)


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable scalars, each counted once."""
    return sum(p.numel() for p in model.parameters())
