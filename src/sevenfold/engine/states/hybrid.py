"""Hybrid attention of the reference engine (specs/arithmetic.md, version 2): a window of recent
keys, and learned summaries of complete strides, under one softmax.

The state of a sequence has constant size: the keys and values of the window, what the two newest
strides still need, and a ring of summaries. A call reads the state and its own tokens, and leaves
the state behind its last token.

Shape suffixes: as in `ops`; J positions of the two strides that one summary covers, C summaries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sevenfold.core.numbers.fixed import (
    Ints,
    Scale,
    as_ints,
    bit_length,
    mulsh,
    multiply_scales,
    quantize_kv,
    rsqrt,
)
from sevenfold.engine import ops
from sevenfold.engine.weights import HybridShape, IntegerModel, Layer, ModelShape

# Fraction bits of the length of a row of codes: 127 * sqrt(1024) * 2^4 is below 2^16.
LENGTH_FRACTION = 4


@dataclass(kw_only=True)
class Rows:
    """Codes [S, K, E] and their scales [S, K], oldest first."""

    codes: Ints
    scale: Scale

    @classmethod
    def empty(cls, shape: ModelShape) -> Rows:
        none = np.zeros((0, shape.n_kv_heads), np.int64)
        return cls(codes=np.zeros((0, shape.n_kv_heads, shape.head_dim), np.int64), scale=Scale(none, none))

    def __len__(self) -> int:
        return len(self.codes)

    def then(self, other: Rows) -> Rows:
        """Return these rows followed by others."""
        pairs = zip(self.scale, other.scale, strict=True)
        return Rows(codes=np.concatenate([self.codes, other.codes]), scale=Scale(*map(np.concatenate, pairs)))

    def newest(self, n: int) -> Rows:
        """Return the last n rows."""
        first = max(len(self) - n, 0)
        return Rows(codes=self.codes[first:], scale=Scale(self.scale.m[first:], self.scale.e[first:]))


@dataclass(kw_only=True)
class LayerState:
    """What one layer keeps of a document: constant size, whatever its length.

    The window has the turned keys and the values of the newest `window` positions. The strides have
    the plain keys, the values and the two scores [S, 2 * K] of the newest complete stride and of
    the positions behind it, in 8 bits. The ring has the newest summaries.
    """

    window_k: Rows
    window_v: Rows
    stride_k: Rows
    stride_v: Rows
    stride_score: Ints
    ring_k: Rows
    ring_v: Rows

    @classmethod
    def empty(cls, shape: ModelShape) -> LayerState:
        """Return the state before the first token of a document."""
        rows = {name: Rows.empty(shape) for name in ("window_k", "window_v", "stride_k", "stride_v")}
        return cls(
            **rows,
            stride_score=np.zeros((0, 2 * shape.n_kv_heads), np.int64),
            ring_k=Rows.empty(shape),
            ring_v=Rows.empty(shape),
        )


def summary(score_J: Ints, codes_JE: Ints, scale: Scale, bits: int) -> tuple[Ints, Scale]:
    """Return the mean of rows, weighted by the softmax of their scores, at their mean length.

    The codes are those of the mean. The scale gives the row the weighted mean of the lengths, so
    the division by the length of the mean and the one by 127 never happen.
    """
    folded = ops.fold_weights(score_J[None], np.ones((1, score_J.size), np.bool_), scale)
    codes_E, _ = quantize_kv(folded.sum_of(codes_JE)[0], bits)
    square_J = np.sum(codes_JE * codes_JE, axis=-1)
    root = rsqrt(np.maximum(square_J, 1))
    length_J = mulsh(square_J, root.m, root.e - LENGTH_FRACTION)
    # Below 2^41.
    total: Ints = np.maximum(np.sum(folded.fold_TS[0] * length_J, keepdims=True), 1)
    excess = bit_length(total) - 16
    mean = Scale((total << np.maximum(-excess, 0)) >> np.maximum(excess, 0), -excess)
    reciprocal, length = folded.reciprocal()
    product = multiply_scales(mean, Scale(reciprocal, length + 15))
    product = multiply_scales(product, rsqrt(np.maximum(np.sum(codes_E * codes_E, keepdims=True), 1)))
    return codes_E, Scale(product.m[0], product.e[0] + folded.lowest_T[0] - 16 + LENGTH_FRACTION)


def _summaries(score_JK: Ints, rows: Rows, bits: int) -> Rows:
    """Return the summary of some positions for each key/value head, [1, K, E]."""
    made = [
        summary(score_JK[:, kv], rows.codes[:, kv], Scale(rows.scale.m[:, kv], rows.scale.e[:, kv]), bits)
        for kv in range(score_JK.shape[1])
    ]
    scales = [np.array([[scale[part] for _, scale in made]]) for part in (0, 1)]
    return Rows(codes=np.stack([codes for codes, _ in made])[None], scale=Scale(*scales))


def _append(state: LayerState, new: LayerState, hybrid: HybridShape, n_past: int, bits: int) -> LayerState:
    """Return the state and the new rows, with the summaries of the strides that they complete.
    Nothing is dropped.
    """
    n_kv, stride = state.stride_score.shape[1] // 2, hybrid.stride
    k, v = state.stride_k.then(new.stride_k), state.stride_v.then(new.stride_v)
    score = np.concatenate([state.stride_score, new.stride_score])
    first = n_past - len(state.stride_k)
    ring_k, ring_v = state.ring_k, state.ring_v
    for index in range(n_past // stride, (n_past + len(new.window_k)) // stride):
        here = slice(max(0, (index - 1) * stride) - first, (index + 1) * stride - first)
        keys = Rows(codes=k.codes[here], scale=Scale(k.scale.m[here], k.scale.e[here]))
        values = Rows(codes=v.codes[here], scale=Scale(v.scale.m[here], v.scale.e[here]))
        ring_k = ring_k.then(_summaries(score[here, :n_kv], keys, bits))
        ring_v = ring_v.then(_summaries(score[here, n_kv:], values, bits))
    return LayerState(
        window_k=state.window_k.then(new.window_k),
        window_v=state.window_v.then(new.window_v),
        stride_k=k,
        stride_v=v,
        stride_score=score,
        ring_k=ring_k,
        ring_v=ring_v,
    )


def _trimmed(state: LayerState, hybrid: HybridShape, length: int) -> LayerState:
    """Return what later tokens need of a state behind `length` positions."""
    kept = length - max(0, (length // hybrid.stride - 1) * hybrid.stride)
    return LayerState(
        window_k=state.window_k.newest(hybrid.window),
        window_v=state.window_v.newest(hybrid.window),
        stride_k=state.stride_k.newest(kept),
        stride_v=state.stride_v.newest(kept),
        stride_score=state.stride_score[len(state.stride_score) - kept :],
        ring_k=state.ring_k.newest(hybrid.ring),
        ring_v=state.ring_v.newest(hybrid.ring),
    )


def _quantized(layer: ops.QuantizedLinear, y_THE: Ints, token: Scale, bits: int = 8) -> Rows:
    """Return heads that are not turned."""
    codes, scale = quantize_kv(y_THE, bits)
    return Rows(codes=codes, scale=ops.scaled(scale, layer.exponent, token))


def _turned(layer: ops.QuantizedLinear, y_THE: Ints, token: Scale, table_TP2: Ints, bits: int = 8) -> Rows:
    codes, scale = ops.rotate(y_THE, table_TP2, bits)
    return Rows(codes=codes, scale=ops.scaled(scale, layer.exponent, token))


def _scores(query: Rows, head: int, keys: Rows, kv: int) -> Ints:
    q_scale = Scale(query.scale.m[:, head], query.scale.e[:, head])
    k_scale = Scale(keys.scale.m[:, kv], keys.scale.e[:, kv])
    return ops.attention_scores(query.codes[:, head], q_scale, keys.codes[:, kv], k_scale)


def attention(
    model: IntegerModel, layer: Layer, x_TD: Ints, state: LayerState, n_past: int
) -> tuple[Ints, LayerState]:
    """Return what hybrid attention adds to the residual, [T, D], and the state behind these tokens.

    Args:
        x_TD: tokens of one document.
        n_past: positions of the document before them.
    """
    shape, hybrid, n_tokens = model.shape, model.shape.hybrid, x_TD.shape[0]
    if hybrid is None or layer.summary is None:
        raise ValueError("the model has causal attention")
    x = ops.rms_norm(x_TD, layer.attn_norm)
    table = as_ints(model.rope_CP2[n_past : n_past + n_tokens])
    q_THE, k_TKE, v_TKE = (
        ops.linear(x, weights).reshape(n_tokens, -1, shape.head_dim)
        for weights in (layer.q, layer.k, layer.v)
    )
    score_TQ = ops.to_units(ops.linear(x, layer.summary), x.scale, layer.summary.exponent, ops.SCORE_FRACTION)
    new = LayerState(
        window_k=_turned(layer.k, k_TKE, x.scale, table, shape.kv_bits),
        window_v=_quantized(layer.v, v_TKE, x.scale, shape.kv_bits),
        stride_k=_quantized(layer.k, k_TKE, x.scale),
        stride_v=_quantized(layer.v, v_TKE, x.scale),
        stride_score=score_TQ,
        ring_k=Rows.empty(shape),
        ring_v=Rows.empty(shape),
    )
    all_ = _append(state, new, hybrid, n_past, shape.kv_bits)

    score = Scale(np.array(shape.score_m), np.array(shape.score_e))
    turned, plain = _turned(layer.q, q_THE, x.scale, table), _quantized(layer.q, q_THE, x.scale)
    turned.scale, plain.scale = multiply_scales(turned.scale, score), multiply_scales(plain.scale, score)

    token = n_past + np.arange(n_tokens)[:, None]
    key = n_past + n_tokens - len(all_.window_k) + np.arange(len(all_.window_k))[None, :]
    n_complete = (token + 1) // hybrid.stride
    n_summaries = (n_past + n_tokens) // hybrid.stride
    index = n_summaries - len(all_.ring_k) + np.arange(len(all_.ring_k))[None, :]
    local = (key <= token) & (key > token - hybrid.window)
    far = (index < n_complete) & (index >= n_complete - hybrid.ring)
    visible_TS = np.concatenate([local, far], axis=1)

    v = all_.window_v.then(all_.ring_v)
    group = shape.n_heads // shape.n_kv_heads
    outputs, exponents = [], []
    for head in range(shape.n_heads):
        kv = head // group
        scores_TS = np.concatenate(
            [_scores(turned, head, all_.window_k, kv), _scores(plain, head, all_.ring_k, kv)], axis=1
        )
        v_scale = Scale(v.scale.m[:, kv], v.scale.e[:, kv])
        o_TE, exponent_T = ops.attend(scores_TS, visible_TS, v.codes[:, kv], v_scale)
        outputs.append(o_TE)
        exponents.append(exponent_T)
    joined = ops.join_heads(np.stack(outputs), np.stack(exponents))
    delta_TD = ops.to_units(
        ops.linear(joined, layer.o), joined.scale, layer.o.exponent, shape.residual_exponent
    )
    return delta_TD, _trimmed(all_, hybrid, n_past + n_tokens)
