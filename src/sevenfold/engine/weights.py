"""The integer model in memory, built from a sealed artifact's records and graph, and nothing else.

Records (specs/arithmetic.md, section 4), all int8 in the file:
    NAME             [O, I]         codes of a projection, an embedding or the head
    NAME.rows        [O, 4]         per row: u16 mantissa, u16 shift, big-endian
    NAME.gain        [D, 2]         i16 norm gains, big-endian
    rope.cos_sin     [C, E/2, 2, 2] i16 cos and sin in Q15, big-endian
    router.experts   [V, 1]         expert of each token id (token-routed models)
Exponents of projections and norms are integers in the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.errors import ArtifactError
from sevenfold.core.fixed import CODE_MAX, Ints
from sevenfold.core.hashing import Json
from sevenfold.engine.ops import Linear, Norm

EMBEDDING, HEAD, FINAL_NORM = "embedding.weight", "lm_head.weight", "final_norm.weight"
ROPE, ROUTER = "rope.cos_sin", "router.experts"


class Record(Protocol):
    """What the engine needs of a stored tensor."""

    @property
    def dims(self) -> tuple[int, ...]:
        """Shape."""

    @property
    def data(self) -> NDArray[np.int8]:
        """Codes or packed integers."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The numbers of the graph that decide the computation."""

    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocab_size: int
    context: int
    n_experts: int
    residual_exponent: int
    score_m: int
    score_e: int


@dataclass(frozen=True, kw_only=True)
class FeedForward:
    """One SwiGLU network."""

    gate: Linear
    up: Linear
    down: Linear


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One block."""

    attn_norm: Norm
    q: Linear
    k: Linear
    v: Linear
    o: Linear
    ffn_norm: Norm
    experts: tuple[FeedForward, ...]  # one, unless tokens are routed


@dataclass(frozen=True, kw_only=True)
class IntegerModel:
    """Everything that inference reads. Arrays are never written."""

    shape: Shape
    embedding_VD: NDArray[np.int8]
    embedding_m_V: Ints
    embedding_s_V: Ints
    rope_CP2: Ints
    router_V: Ints
    layers: tuple[Layer, ...]
    final_norm: Norm
    head: Linear


class _Loader:
    """Looks up records and exponents; each miss or misfit is an ArtifactError that names it."""

    def __init__(self, records: Mapping[str, Record], graph: Mapping[str, Json], where: str) -> None:
        self.records, self.graph, self.where = records, graph, where

    def fail(self, what: str) -> ArtifactError:
        return ArtifactError(
            what, where=self.where, remedy="the file was not written by a compatible `s7 seal`; seal it again"
        )

    def record(self, name: str, dims: tuple[int, ...]) -> NDArray[np.int8]:
        if name not in self.records:
            raise self.fail(f"record {name!r} is missing from the FIELD lane")
        record = self.records[name]
        if tuple(record.dims) != dims:
            raise self.fail(f"record {name!r} has shape {list(record.dims)}, the graph needs {list(dims)}")
        return record.data.reshape(dims)

    def codes(self, name: str, dims: tuple[int, int]) -> NDArray[np.int8]:
        data = self.record(name, dims)
        if int(data.min()) < -CODE_MAX:
            raise self.fail(f"record {name!r} holds the code -128, which the arithmetic bans")
        return data

    def packed(self, name: str, dims: tuple[int, ...], kind: str) -> Ints:
        """Big-endian 16-bit integers stored as pairs of bytes along the last axis."""
        raw = np.ascontiguousarray(self.record(name, dims))
        return raw.view(kind).astype(np.int64)

    def integer(self, *keys: str) -> int:
        value: Json = self.graph
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if type(value) is not int or abs(value) > 2**31:
            raise self.fail(f"the graph's {'.'.join(keys)} is {value!r}, an integer is needed")
        return value

    def rows(self, name: str, n_rows: int) -> tuple[Ints, Ints]:
        packed = self.packed(f"{name}.rows", (n_rows, 4), ">u2")
        return packed[:, 0], packed[:, 1]

    def linear(self, name: str, n_out: int, n_in: int) -> Linear:
        weight = self.codes(name, (n_out, n_in))
        m, s = self.rows(name, n_out)
        transposed = np.ascontiguousarray(weight.T).astype(np.int32)
        return Linear(weight_IO=transposed, row_m_O=m, row_s_O=s, exponent=self.integer("exponents", name))

    def norm(self, name: str, d_model: int) -> Norm:
        gain = self.packed(f"{name}.gain", (d_model, 2), ">i2")[:, 0]
        return Norm(gain_D=gain, exponent=self.integer("exponents", name), eps=self.integer("norm_eps"))


def _shape(load: _Loader) -> Shape:
    names = ("d_model", "n_layers", "n_heads", "n_kv_heads", "head_dim", "vocab_size", "context", "n_experts")
    values = {name: load.integer("model", name) for name in names}
    for name, value in values.items():
        if not 1 <= value <= 2**20:
            raise load.fail(f"the graph's model.{name} is {value}, outside 1 .. 2^20")
    if values["n_heads"] % values["n_kv_heads"] or values["head_dim"] % 2:
        raise load.fail("the graph's heads do not divide evenly")
    return Shape(
        **values,
        residual_exponent=load.integer("residual_exponent"),
        score_m=load.integer("score_scale", "m"),
        score_e=load.integer("score_scale", "e"),
    )


def _layer(load: _Loader, shape: Shape, index: int, d_ffn: int) -> Layer:
    prefix, d_model = f"layers.{index:02d}", shape.d_model
    d_q, d_kv = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim

    def feed_forward(base: str) -> FeedForward:
        return FeedForward(
            gate=load.linear(f"{base}.gate_proj.weight", d_ffn, d_model),
            up=load.linear(f"{base}.up_proj.weight", d_ffn, d_model),
            down=load.linear(f"{base}.down_proj.weight", d_model, d_ffn),
        )

    routed = [f"{prefix}.ffn.experts.{e}" for e in range(shape.n_experts)]
    return Layer(
        attn_norm=load.norm(f"{prefix}.attn_norm.weight", d_model),
        q=load.linear(f"{prefix}.attn.q_proj.weight", d_q, d_model),
        k=load.linear(f"{prefix}.attn.k_proj.weight", d_kv, d_model),
        v=load.linear(f"{prefix}.attn.v_proj.weight", d_kv, d_model),
        o=load.linear(f"{prefix}.attn.o_proj.weight", d_model, d_q),
        ffn_norm=load.norm(f"{prefix}.ffn_norm.weight", d_model),
        experts=tuple(feed_forward(b) for b in (routed if shape.n_experts > 1 else [f"{prefix}.ffn"])),
    )


def load_weights(records: Mapping[str, Record], graph: Mapping[str, Json], where: str) -> IntegerModel:
    """Build the model. `where` names the file in errors.

    Raises:
        ArtifactError: a record or a graph entry is missing, misshapen or out of range.
    """
    load = _Loader(records, graph, where)
    shape = _shape(load)
    d_ffn = load.integer("model", "d_ffn")
    vocab, d_model = shape.vocab_size, shape.d_model
    embedding_m, embedding_s = load.rows(EMBEDDING, vocab)
    if shape.n_experts > 1:
        router = load.record(ROUTER, (vocab, 1)).astype(np.int64)[:, 0]
        if router.min() < 0 or router.max() >= shape.n_experts:
            raise load.fail(f"record {ROUTER!r} names an expert outside 0 .. {shape.n_experts - 1}")
    else:
        router = np.zeros(vocab, np.int64)
    rope = load.packed(ROPE, (shape.context, shape.head_dim // 2, 2, 2), ">i2")[..., 0]
    return IntegerModel(
        shape=shape,
        embedding_VD=load.codes(EMBEDDING, (vocab, d_model)),
        embedding_m_V=embedding_m,
        embedding_s_V=embedding_s,
        rope_CP2=rope,
        router_V=router,
        layers=tuple(_layer(load, shape, i, d_ffn) for i in range(shape.n_layers)),
        final_norm=load.norm(FINAL_NORM, d_model),
        head=load.linear(HEAD, vocab, d_model),
    )
