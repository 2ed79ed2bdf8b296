"""Hybrid attention (specs/attention.md): a causal local window, and learned summaries of every
complete stride.

Keys are in blocks of one window. A block of queries attends to its own keys, to those of the block
before, and to a run of summaries, all under one softmax. No tensor is longer than the sequence
times (two windows + the ring), so the cost is linear in the length. In FP32 on the CPU the kernel
of `model.kernels.hybrid_kernel` computes the same under specs/training-arithmetic.md.

Shape suffixes: B batch, T sequence, D d_model, H query heads, K key/value heads, G query heads of
one key/value head, E head_dim, Q scores (2 * K), S summaries, N blocks, W window (positions of a
block), C keys that a block reads.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sevenfold.model import native
from sevenfold.model.attention import Attention
from sevenfold.model.kernels import functions, hybrid_kernel, operators
from sevenfold.model.kernels.functions import Segments
from sevenfold.model.kernels.hybrid_kernel import HybridConstants
from sevenfold.model.linear import Linear
from sevenfold.model.rope import Rope
from sevenfold.recipe.schema import HybridAttentionSpec as HybridBlock
from sevenfold.recipe.schema import ModelSpec

_TINY = 1e-12
# Scores held at once in evaluation: 128 MB in FP32.
TILE = 1 << 25


class Reach(NamedTuple):
    """The three sizes: positions in the window, positions in a stride, and summaries that are
    readable at once.
    """

    window: int
    stride: int
    ring: int

    @property
    def strides(self) -> int:
        """Return the number of strides in a window."""
        return self.window // self.stride


def _blocks(x_BHTE: Tensor, size: int) -> Tensor:
    """Pad the sequence to whole blocks. [B, H, T, E] -> [B, H, N, size, E]."""
    blocks: Tensor = F.pad(x_BHTE, (0, 0, 0, -x_BHTE.shape[2] % size)).unflatten(2, (-1, size))
    return blocks


def _pairs(x_BHNWE: Tensor) -> Tensor:
    """Return each block joined to the one before it (zeros before the first). -> [B, H, N, 2 * W,
    E].
    """
    before = F.pad(x_BHNWE, (0, 0, 0, 0, 1, 0))[:, :, :-1]
    return torch.cat([before, x_BHNWE], dim=3)


def _softmax(x: Tensor) -> Tensor:
    """Return the softmax of the last axis. The backward of PyTorch's softmax has bits that change
    with the thread count (dev/LOG.md).
    """
    return (x - x.logsumexp(-1, keepdim=True)).exp()


def _mean(weight_BKSC: Tensor, x_BKSCE: Tensor) -> Tensor:
    """Return the weighted mean direction at the weighted mean length, so that averaging does not
    shorten it. -> [B, K, S, E].
    """
    weight = weight_BKSC.unsqueeze(-2)
    mean = (weight @ x_BKSCE).squeeze(-2)
    length = weight @ _length(x_BKSCE)
    return mean * (length.squeeze(-2) / _length(mean))


def _length(x: Tensor) -> Tensor:
    # The sum keeps the gradient finite where a vector is zero.
    return (x.square().sum(-1, keepdim=True) + _TINY).sqrt()


def summarize(k_BKTE: Tensor, v_BKTE: Tensor, score_BQT: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Return a key and a value for every complete stride.

    Each is a mean over that stride and the one before, weighted by the softmax of scores. score [B,
    2 * K, T] has one score for the key and one for the value, of every position and key/value head.
    -> [B, K, S, E] twice.
    """
    n_kv, whole = k_BKTE.shape[1], k_BKTE.shape[2] // stride * stride
    score = score_BQT[..., :whole].unflatten(2, (-1, stride))
    before = F.pad(score, (0, 0, 1, 0), value=-math.inf)[:, :, :-1]
    weight = _softmax(torch.cat([before, score], dim=3))
    k, v = (_pairs(_blocks(x[:, :, :whole], stride)) for x in (k_BKTE, v_BKTE))
    return _mean(weight[:, :n_kv], k), _mean(weight[:, n_kv:], v)


def _runs(x_BKSE: Tensor, n_blocks: int, strides: int, ring: int) -> Tensor:
    """Return the summaries that block i may read: i * strides - ring to (i + 1) * strides - 1. ->
    [B, K, N, ring + strides, E].
    """
    x = F.pad(x_BKSE, (0, 0, ring, n_blocks * strides - x_BKSE.shape[2]))
    return x.unfold(2, ring + strides, strides).transpose(-1, -2)


def _visible(first: int, n_blocks: int, reach: Reach, ring: int, device: torch.device) -> Tensor:
    """Return bool [N, W, 2 * W + ring + strides]: which keys the queries of blocks first, first +
    1, ... may read.
    """
    window, strides = reach.window, reach.strides
    block = torch.arange(first, first + n_blocks, device=device)[:, None, None]
    query = block * window + torch.arange(window, device=device)[:, None]
    key = (block - 1) * window + torch.arange(2 * window, device=device)
    local = (key >= 0) & (key <= query) & (key > query - window)
    summary = block * strides - ring + torch.arange(ring + strides, device=device)
    n_complete = (query + 1).div(reach.stride, rounding_mode="floor")
    return torch.cat(
        [local, (summary >= 0) & (summary < n_complete) & (summary >= n_complete - ring)], dim=-1
    )


def _tile(
    q: Tensor, turned: Tensor, k: Tensor, v: Tensor, k_sum: Tensor, v_sum: Tensor, visible: Tensor
) -> Tensor:
    """Return one softmax over the local keys and the summaries of some blocks.

    Queries [B, K, N, G * W, E] -> the same shape.
    """
    scores = torch.cat([turned @ k.transpose(-1, -2), q @ k_sum.transpose(-1, -2)], dim=-1)
    window, n_keys = visible.shape[1:]
    grouped = scores.view(*scores.shape[:3], -1, window, n_keys)
    grouped = grouped.masked_fill(~visible.unsqueeze(1), -math.inf)
    weight = _softmax(grouped).view_as(scores)
    n_local = k.shape[-2]
    return weight[..., :n_local] @ v + weight[..., n_local:] @ v_sum


def hybrid_attention(
    q: Tensor, turned: Tensor, k_turned: Tensor, v: Tensor, k_sum: Tensor, v_sum: Tensor, reach: Reach
) -> Tensor:
    """Return hybrid attention (specs/attention.md) over one document that starts at position 0, [B,
    H, T, E].

    Args:
        q: queries without rotation [B, H, T, E], scaled.
        turned: the same queries, rotated.
        k_turned: rotated keys [B, K, T, E].
        v: values.
        k_sum, v_sum: `summarize` of the keys without rotation and of the values [B, K, S, E].
        reach: window, stride, ring.
    """
    n_batch, n_heads, length, width = q.shape
    n_kv, window = v.shape[1], reach.window
    group = n_heads // n_kv
    # A ring with more places than the sequence has summaries drops none.
    ring = max(1, min(reach.ring, k_sum.shape[2]))

    def queries(x: Tensor) -> Tensor:
        blocks: Tensor = _blocks(x, window).unflatten(1, (n_kv, group))
        return blocks.transpose(2, 3).flatten(3, 4)

    q, turned = queries(q), queries(turned)
    n_blocks = q.shape[2]
    k, v = _pairs(_blocks(k_turned, window)), _pairs(_blocks(v, window))
    k_sum, v_sum = (_runs(x, n_blocks, reach.strides, ring) for x in (k_sum, v_sum))
    n_keys = k.shape[-2] + k_sum.shape[-2]
    step = max(1, TILE // (n_batch * n_heads * window * n_keys))
    tiles = [
        _tile(
            q[:, :, i : i + step],
            turned[:, :, i : i + step],
            k[:, :, i : i + step],
            v[:, :, i : i + step],
            k_sum[:, :, i : i + step],
            v_sum[:, :, i : i + step],
            _visible(i, min(step, n_blocks - i), reach, ring, q.device),
        )
        for i in range(0, n_blocks, step)
    ]
    y: Tensor = torch.cat(tiles, dim=2).unflatten(3, (group, window))
    return y.transpose(2, 3).reshape(n_batch, n_heads, n_blocks * window, width)[:, :, :length]


class HybridAttention(Attention):
    """Grouped-query attention whose far keys are summaries, weighted by two learned scores for each
    position and key/value head.
    """

    def __init__(self, spec: ModelSpec, rope: Rope) -> None:
        super().__init__(spec, rope)
        block = spec.attention
        if not isinstance(block, HybridBlock):
            raise ValueError("model.attention is not hybrid")
        self.reach = Reach(
            window=block.local_chunk,
            stride=block.global_stride,
            ring=-(-spec.context // block.global_stride),
        )
        self.summary_proj = Linear(spec.d_model, 2 * spec.n_kv_heads)

    def forward(self, x_BTD: Tensor, segments: Segments | None = None) -> Tensor:
        """Map [B, T, D] -> [B, T, D]. The kernel computes it in FP32 on the CPU."""
        if not (operators.is_taken(x_BTD) and native.fits(self.head_dim)):
            return super().forward(x_BTD, segments)
        layers = (self.q_proj, self.k_proj, self.v_proj, self.summary_proj)
        q, k, v, score = functions.project(x_BTD, *(layer.weight for layer in layers))
        q_BHTE, k_BKTE, v_BKTE = (self._heads(x) for x in (q, k, v))
        rope = self._rope[0]
        rule = HybridConstants(*self.reach, temper=rope.temperature * rope.temperature)
        y_BHTE = hybrid_kernel.hybrid_attention(
            q_BHTE, k_BKTE, v_BKTE, score.transpose(1, 2), rope.tables(q_BHTE), rule, segments
        )
        return self._output(y_BHTE)

    def attend(self, q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, x_BTD: Tensor) -> Tensor:
        """Return attention over one document that starts at position 0, [B, H, T, E]."""
        rope = self._rope[0]
        # The tables of rope contain the temperature of a scaling, once for each side. Summaries are
        # not rotated, so the temperature is applied to them here.
        q_BHTE = q_BHTE / math.sqrt(self.head_dim)
        score_BQT = self.summary_proj(x_BTD).transpose(1, 2)
        k_sum, v_sum = summarize(k_BKTE, v_BKTE, score_BQT, self.reach.stride)
        temper = rope.temperature**2
        return hybrid_attention(
            q_BHTE * temper if temper != 1.0 else q_BHTE,
            rope(q_BHTE),
            rope(k_BKTE),
            v_BKTE,
            k_sum,
            v_sum,
            self.reach,
        )
