"""Define the structures of native/engine/s7.h, and pointers to arrays, for calls of the library.

A change here is a change of native/engine/s7.h and of its S7_ABI.
"""

from __future__ import annotations

from ctypes import POINTER, Structure, c_char_p, c_int32, c_int64, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.numbers import fixed
from sevenfold.core.numbers.fixed import StoredInts
from sevenfold.engine.ops import Norm, QuantizedLinear
from sevenfold.engine.weights import FeedForwardWeights, IntegerModel, Layer, ModelShape

ABI = 3
SHAPE_FIELDS = [
    "d_model",
    "n_layers",
    "n_heads",
    "n_kv_heads",
    "head_dim",
    "d_ffn",
    "vocab_size",
    "context",
    "n_experts",
    "residual_exponent",
    "score_m",
    "score_e",
    "stack_layers",
    "stack_d_ffn",
]


class NativeShape(Structure):
    """s7_shape of native/engine/s7.h."""

    _fields_ = [(name, c_int32) for name in SHAPE_FIELDS]


class LinearView(Structure):
    """s7_linear of native/engine/s7.h."""

    _fields_ = [
        ("codes", c_void_p), ("row_m", c_void_p), ("row_s", c_void_p),
        ("n_out", c_int32), ("n_in", c_int32), ("exponent", c_int32),
    ]  # fmt: skip


class NormView(Structure):
    """s7_norm of native/engine/s7.h."""

    _fields_ = [("gain", c_void_p), ("eps", c_int64), ("n", c_int32), ("exponent", c_int32)]


class FeedForwardView(Structure):
    """s7_ffn of native/engine/s7.h."""

    _fields_ = [("gate", LinearView), ("up", LinearView), ("down", LinearView)]


class LayerView(Structure):
    """s7_layer of native/engine/s7.h."""

    _fields_ = [
        ("attn_norm", NormView), ("ffn_norm", NormView),
        ("q", LinearView), ("k", LinearView), ("v", LinearView), ("o", LinearView),
        ("experts", POINTER(FeedForwardView)),
    ]  # fmt: skip


class Tables(Structure):
    """s7_tables of native/engine/s7.h."""

    _fields_ = [("exp2", c_int32 * 65), ("sigmoid", c_int32 * 513), ("rsqrt", c_int32 * 192)]


class WeightsView(Structure):
    """s7_weights of native/engine/s7.h."""

    _fields_ = [
        ("embedding", LinearView), ("cos_sin", c_void_p), ("n_cos_sin", c_int64), ("router", c_void_p),
        ("layers", POINTER(LayerView)), ("stacks", POINTER(LayerView)), ("final_norm", NormView),
        ("head", LinearView),
    ]  # fmt: skip


class HybridView(Structure):
    """s7_hybrid of native/engine/s7.h."""

    _fields_ = [(name, c_int32) for name in ("window", "stride", "ring", "document_start", "kv_bits")]


class NativeRun(Structure):
    """s7_run of native/engine/s7.h."""

    _fields_ = [
        ("session", c_void_p), ("ids", c_void_p), ("n_ids", c_int32), ("n_logits", c_int32),
        ("logits", c_void_p),
    ]  # fmt: skip


SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "s7_abi": (c_int32, []),
    "s7_status_text": (c_char_p, [c_int32]),
    "s7_isa_supported": (c_int32, [c_int32]),
    "s7_isa_widest": (c_int32, []),
    "s7_model_create": (
        c_int32,
        [POINTER(NativeShape), POINTER(Tables), POINTER(WeightsView), c_int32, POINTER(c_void_p)],
    ),
    "s7_hybrid_model_create": (
        c_int32,
        [
            POINTER(NativeShape),
            POINTER(HybridView),
            POINTER(Tables),
            POINTER(WeightsView),
            POINTER(LinearView),
            c_int32,
            POINTER(c_void_p),
        ],
    ),
    "s7_session_least": (c_int32, [c_void_p]),
    "s7_session_save": (c_int32, [c_void_p, c_void_p, c_int64, POINTER(c_int64)]),
    "s7_session_load": (c_int32, [c_void_p, c_void_p, c_int64, POINTER(c_void_p)]),
    "s7_model_free": (None, [c_void_p]),
    "s7_model_bytes": (c_int64, [c_void_p]),
    "s7_team_create": (c_int32, [c_void_p, c_int32, POINTER(c_void_p)]),
    "s7_team_free": (None, [c_void_p]),
    "s7_session_create": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "s7_session_free": (None, [c_void_p]),
    "s7_session_fork": (c_int32, [c_void_p, c_int32, POINTER(c_void_p)]),
    "s7_session_truncate": (c_int32, [c_void_p, c_int32]),
    "s7_session_length": (c_int32, [c_void_p]),
    "s7_session_bytes": (c_int64, [c_void_p]),
    "s7_forward": (c_int32, [c_void_p, POINTER(NativeRun), c_int32]),
    "s7_greedy": (
        c_int32,
        [c_void_p, POINTER(NativeRun), c_int32, c_int32, c_void_p, c_int32, c_void_p],
    ),
    "s7_generate": (
        c_int32,
        [c_void_p, POINTER(NativeRun), c_void_p, c_int32, c_void_p, c_int32, POINTER(c_int32)],
    ),
    "s7_decode": (
        c_int32,
        [c_void_p, POINTER(NativeRun), c_void_p, c_int32, c_int32, c_void_p, c_int32, c_void_p, c_void_p],
    ),
    "s7_session_kv": (
        c_int32,
        [c_void_p, c_int32, c_int32, c_void_p, c_int64, c_void_p, c_void_p, c_int64],
    ),
    "s7_peak": (c_int32, [c_int32, c_int32, POINTER(c_int64), POINTER(c_int64)]),
}


class Arrays:
    """Structures that point to arrays. This object keeps the arrays alive."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def pointer(self, values: Any, dtype: type) -> int:
        """Return a pointer to the values in that type, row by row."""
        array: NDArray[Any] = np.ascontiguousarray(values, dtype)
        self.kept.append(array)
        return int(array.ctypes.data)

    def projection(self, codes_OI: Any, m: StoredInts, s: StoredInts, exponent: int) -> LinearView:
        n_out, n_in = codes_OI.shape
        return LinearView(
            self.pointer(codes_OI, np.int8), self.pointer(m, np.uint16), self.pointer(s, np.uint16),
            n_out, n_in, exponent,
        )  # fmt: skip

    def linear(self, layer: QuantizedLinear) -> LinearView:
        return self.projection(layer.codes_OI, layer.row_m_O, layer.row_s_O, layer.exponent)

    def norm(self, norm: Norm) -> NormView:
        return NormView(self.pointer(norm.gain_D, np.int16), norm.eps, norm.gain_D.size, norm.exponent)

    def feed_forward(self, ffn: FeedForwardWeights) -> FeedForwardView:
        return FeedForwardView(self.linear(ffn.gate), self.linear(ffn.up), self.linear(ffn.down))

    def layer(self, layer: Layer) -> LayerView:
        experts = (FeedForwardView * len(layer.experts))(*(self.feed_forward(f) for f in layer.experts))
        self.kept.append(experts)
        projections = (self.linear(w) for w in (layer.q, layer.k, layer.v, layer.o))
        return LayerView(self.norm(layer.attn_norm), self.norm(layer.ffn_norm), *projections, experts)

    def weights(self, model: IntegerModel) -> WeightsView:
        layers = (LayerView * len(model.layers))(*(self.layer(layer) for layer in model.layers))
        behind = [self.layer(layer) for stack in model.stacks for layer in stack]
        stacks = (LayerView * len(behind))(*behind)
        self.kept += [layers, stacks]
        embedding = self.projection(model.embedding_VD, model.embedding_m_V, model.embedding_s_V, 0)
        return WeightsView(
            embedding, self.pointer(model.rope_CP2, np.int16), model.rope_CP2.size,
            self.pointer(model.router_V, np.uint8), layers, stacks, self.norm(model.final_norm),
            self.linear(model.head),
        )  # fmt: skip

    def summaries(self, model: IntegerModel) -> Any:
        """Return the projections of summary scores of every layer, those of stacks last."""
        layers = [*model.layers, *(layer for stack in model.stacks for layer in stack)]
        views = [self.linear(layer.summary) for layer in layers if layer.summary is not None]
        found = (LinearView * len(views))(*views)
        self.kept.append(found)
        return found


def hybrid_view(shape: ModelShape) -> HybridView | None:
    """Return the sizes of hybrid attention; None for a causal model."""
    h = shape.hybrid
    if h is None:
        return None
    start = -1 if h.document_start is None else h.document_start
    return HybridView(h.window, h.stride, h.ring, start, shape.kv_bits)


def tables() -> Tables:
    """Return the tables of the arithmetic from `core.numbers.fixed`, the only copy."""
    exp2, sigmoid, rsqrt = (
        t.tolist() for t in (fixed.exp2_table(), fixed.sigmoid_table(), fixed.rsqrt_table())
    )
    return Tables((c_int32 * 65)(*exp2), (c_int32 * 513)(*sigmoid), (c_int32 * 192)(*rsqrt))
