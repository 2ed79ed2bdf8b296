"""The reference engine in NumPy integers, which implements specs/arithmetic.md directly.

Every other backend equals it bit for bit. `Cache` holds int8 keys and values with their scales, and
`forward` appends to it. No floating-point value exists between token ids and logits. A test runs
the whole path on arrays that refuse one. Legend: as in `ops`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sevenfold.core.errors import GateError
from sevenfold.core.numbers.fixed import Ints, Scale, as_ints, multiply_scales, quantize
from sevenfold.engine import ops
from sevenfold.engine.states import hybrid
from sevenfold.engine.weights import HybridShape, IntegerModel, Layer, ModelShape

NAME = "reference"
# Tokens of hybrid attention that are computed together.
BLOCK = 256


@dataclass(kw_only=True)
class LayerCache:
    """Keys and values of one layer: codes [C, K, E], scales [C, K].

    Rows from `Cache.length` on are unused.
    """

    k: Ints
    k_m: Ints
    k_e: Ints
    v: Ints
    v_m: Ints
    v_e: Ints


class Cache:
    """The KV cache of one sequence, allocated for the whole context. Codes are int8, so it takes 2
    * (E + 6) bytes for each token and head. Hybrid attention has `states` of constant size instead.
    """

    def __init__(self, shape: ModelShape) -> None:
        rows, heads = shape.context, shape.n_kv_heads
        self.length = 0
        # Position at which the document at hand begins: after 0 under hybrid attention alone.
        self.begin = 0
        # The expert whose layers follow the trunk. The first id of the sequence decides it.
        self.stack = 0
        self.layers = [
            LayerCache(
                k=np.zeros((rows, heads, shape.head_dim), np.int8),
                k_m=np.zeros((rows, heads), np.uint16),
                k_e=np.zeros((rows, heads), np.int32),
                v=np.zeros((rows, heads, shape.head_dim), np.int8),
                v_m=np.zeros((rows, heads), np.uint16),
                v_e=np.zeros((rows, heads), np.int32),
            )
            for _ in range(0 if shape.hybrid else shape.n_layers + shape.stack_layers)
        ]
        self.states: list[hybrid.LayerState] = []
        if shape.hybrid:
            self.begin_document(shape)

    def begin_document(self, shape: ModelShape) -> None:
        """Forget all that hybrid attention keeps. The next token has position 0."""
        self.begin = self.length
        self.states = [hybrid.LayerState.empty(shape) for _ in range(shape.n_layers + shape.stack_layers)]


def _attention(model: IntegerModel, layer: Layer, x_TD: Ints, cache: LayerCache, n_past: int) -> Ints:
    """Return what the attention block adds to the residual, [T, D]."""
    shape, n_tokens = model.shape, x_TD.shape[0]
    x = ops.rms_norm(x_TD, layer.attn_norm)
    table = as_ints(model.rope_CP2[n_past : n_past + n_tokens])
    q_THE = ops.linear(x, layer.q).reshape(n_tokens, shape.n_heads, shape.head_dim)
    k_TKE = ops.linear(x, layer.k).reshape(n_tokens, shape.n_kv_heads, shape.head_dim)
    v_TKE = ops.linear(x, layer.v).reshape(n_tokens, shape.n_kv_heads, shape.head_dim)

    q, q_scale = ops.rotate(q_THE, table)
    q_scale = ops.scaled(q_scale, layer.q.exponent, x.scale)
    q_scale = multiply_scales(q_scale, Scale(np.array(shape.score_m), np.array(shape.score_e)))
    k, k_scale = ops.rotate(k_TKE, table)
    k_scale = ops.scaled(k_scale, layer.k.exponent, x.scale)
    v, v_scale = quantize(v_TKE)
    v_scale = ops.scaled(v_scale, layer.v.exponent, x.scale)

    new = slice(n_past, n_past + n_tokens)
    cache.k[new], cache.k_m[new], cache.k_e[new] = k, k_scale.m, k_scale.e
    cache.v[new], cache.v_m[new], cache.v_e[new] = v, v_scale.m, v_scale.e

    seen, group = slice(0, n_past + n_tokens), shape.n_heads // shape.n_kv_heads
    outputs, exponents = [], []
    for head in range(shape.n_heads):
        kv = head // group
        o_TE, exponent_T = ops.attention_head(
            q[:, head],
            Scale(q_scale.m[:, head], q_scale.e[:, head]),
            as_ints(cache.k[seen, kv]),
            Scale(as_ints(cache.k_m[seen, kv]), as_ints(cache.k_e[seen, kv])),
            as_ints(cache.v[seen, kv]),
            Scale(as_ints(cache.v_m[seen, kv]), as_ints(cache.v_e[seen, kv])),
            n_past,
        )
        outputs.append(o_TE)
        exponents.append(exponent_T)
    joined = ops.join_heads(np.stack(outputs), np.stack(exponents))
    y_TD = ops.linear(joined, layer.o)
    return ops.to_units(y_TD, joined.scale, layer.o.exponent, shape.residual_exponent)


def _feed_forward(model: IntegerModel, layer: Layer, x_TD: Ints, experts_T: Ints) -> Ints:
    """Return what the feed-forward block adds to the residual, [T, D]. Each token uses its one
    expert.
    """
    x = ops.rms_norm(x_TD, layer.ffn_norm)
    out_TD = np.zeros_like(x_TD)
    for index, ffn in enumerate(layer.experts):
        rows = np.nonzero(experts_T == index)[0]
        if rows.size == 0:
            continue
        mine = ops.Quantized(codes=x.codes[rows], scale=Scale(x.scale.m[rows], x.scale.e[rows]))
        gate, up = ops.linear(mine, ffn.gate), ops.linear(mine, ffn.up)
        h = ops.swiglu(gate, up, mine.scale, ffn.gate.exponent, ffn.up.exponent)
        y = ops.linear(h, ffn.down)
        out_TD[rows] = ops.to_units(y, h.scale, ffn.down.exponent, model.shape.residual_exponent)
    return out_TD


def check_ids(model: IntegerModel, ids: Ints, n_past: int) -> None:
    """Refuse ids outside the vocabulary and positions past the context. Raises GateError."""
    shape = model.shape
    if ids.ndim != 1 or ids.size == 0:
        raise GateError("a call needs at least one token id", remedy="give a prompt that is not empty")
    if int(ids.min()) < 0 or int(ids.max()) >= shape.vocab_size:
        bad = ids[(ids < 0) | (ids >= shape.vocab_size)][0]
        raise GateError(f"token id {bad} is outside the vocabulary of {shape.vocab_size}")
    if n_past + ids.size > shape.context:
        raise GateError(
            f"{n_past + ids.size} tokens exceed the context of {shape.context}",
            remedy="shorten the prompt or ask for fewer tokens",
        )


def forward(model: IntegerModel, ids: Ints, cache: Cache, *, last_only: bool = False) -> Ints:
    """Return the logits of `ids` after the cached prefix. The ids are added to the cache.

    Args:
        ids: [T], in [0, vocab_size).
        last_only: compute the head for the last token alone.

    Returns:
        [T, V] (or [1, V]) int64 holding int32 values: natural-log units with 16 fraction bits.

    Raises:
        GateError: an id outside the vocabulary, no ids, or more positions than the context has.
    """
    ids = as_ints(ids)
    check_ids(model, ids, cache.length)
    if model.shape.hybrid is None:
        return _forward(model, ids, cache, last_only)
    parts = [_forward(model, part, cache, last_only) for part in _blocks(ids, model.shape.hybrid)]
    return parts[-1] if last_only else np.concatenate(parts)


def _blocks(ids: Ints, shape: HybridShape) -> list[Ints]:
    """Return the ids cut where documents begin, and into blocks whose scores take little memory."""
    start = -1 if shape.document_start is None else shape.document_start
    cuts = sorted({*range(0, ids.size, BLOCK), *np.flatnonzero(ids == start).tolist()} - {0})
    return np.split(ids, cuts)


def _forward(model: IntegerModel, ids: Ints, cache: Cache, last_only: bool) -> Ints:
    """Return the logits of ids that were checked. Under hybrid attention they are of one document."""
    n_past, shape = cache.length, model.shape
    embedding = as_ints(model.embedding_VD[ids])
    x_TD = ops.embed(embedding, model.embedding_m_V[ids], model.embedding_s_V[ids])
    experts_T, layers = model.router_V[ids], model.layers
    if model.stacks:
        cache.stack = int(experts_T[0]) if n_past == 0 else cache.stack
        experts_T, layers = np.zeros_like(ids), layers + model.stacks[cache.stack]
    if shape.hybrid and ids[0] == shape.hybrid.document_start:
        cache.begin_document(shape)
    for index, layer in enumerate(layers):
        if shape.hybrid:
            past = n_past - cache.begin
            delta_TD, state = hybrid.attention(model, layer, x_TD, cache.states[index], past)
            cache.states[index] = state
        else:
            delta_TD = _attention(model, layer, x_TD, cache.layers[index], n_past)
        x_TD = ops.add_residual(x_TD, delta_TD)
        x_TD = ops.add_residual(x_TD, _feed_forward(model, layer, x_TD, experts_T))
    cache.length = n_past + ids.size
    final = ops.rms_norm(x_TD[-1:] if last_only else x_TD, model.final_norm)
    y_TV = ops.linear(final, model.head)
    return ops.to_units(y_TV, final.scale, model.head.exponent, ops.LOGIT_FRACTION)


def argmax(logits_V: Ints) -> int:
    """Return the token with the largest logit. Ties go to the lowest id."""
    return int(np.argmax(logits_V))


def unavailable() -> str | None:
    """Return None, because the reference runs everywhere."""
    return None


class ReferenceEngine:
    """A model on this backend."""

    name = NAME
    detail = "NumPy"

    def __init__(self, model: IntegerModel) -> None:
        self.model = model

    def session(self) -> ReferenceSession:
        """Return an empty KV cache."""
        return ReferenceSession(self.model)


class ReferenceSession:
    """One KV cache and its model."""

    def __init__(self, model: IntegerModel) -> None:
        self.model = model
        self._cache: Cache | None = Cache(model.shape)

    def close(self) -> None:
        """Drop the cache. Later calls raise GateError."""
        self._cache = None

    def forward(self, ids: Ints, *, last_only: bool = False) -> Ints:
        """Return what `forward` returns, on this cache.

        Raises GateError, also when the session is closed.
        """
        if self._cache is None:
            raise GateError("the session is closed", remedy="open another")
        return forward(self.model, ids, self._cache, last_only=last_only)
