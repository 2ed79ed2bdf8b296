"""Build the integer model in memory from the records and the graph of a sealed artifact.

Records (specs/arithmetic.md, section 4), all int8 in the file:

    NAME             [O, I]         codes of a projection, an embedding or the head
    NAME.rows        [O, 4]         per row: u16 mantissa, u16 shift, big-endian
    NAME.gain        [D, 2]         i16 norm gains, big-endian
    rope.cos_sin     [C, E/2, 2, 2] i16 cos and sin in Q15, big-endian
    router.experts   [V, 1]         expert of each token id (token-routed models, expert stacks)

Exponents of projections and norms are integers in the graph. Every loaded value is inside the
ranges for which the page proves all widths. Any other value is refused, and the error names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.errors import ArtifactError, UsageError
from sevenfold.core.hashing import Json
from sevenfold.core.numbers.fixed import CODE_MAX, Ints, StoredInts, as_ints
from sevenfold.core.numbers.tables import HYBRID_LAW_VERSION, LAW_VERSION, law_digest
from sevenfold.engine.ops import MAX_CONTEXT, MAX_INPUTS, Norm, QuantizedLinear

EMBEDDING, HEAD, FINAL_NORM = "embedding.weight", "lm_head.weight", "final_norm.weight"
ROPE, ROUTER = "rope.cos_sin", "router.experts"

# The largest values of `model` in the graph; the smallest is 1.
LIMITS = {
    "d_model": 2**16,
    "n_layers": 2**10,
    "n_heads": 2**10,
    "n_kv_heads": 2**10,
    "head_dim": 2**10,
    "d_ffn": MAX_INPUTS,
    "vocab_size": 2**20,
    "context": MAX_CONTEXT,
    "n_experts": 2**7,
}
# Present only in files with expert stacks.
STACK_LIMITS = {"stack_layers": 2**10, "stack_d_ffn": MAX_INPUTS}
# Present only in files of version 2. Two strides are one softmax, so P keeps its 24 bits.
ATTENTION_LIMITS = {"window": MAX_CONTEXT, "stride": 2**16, "ring": MAX_CONTEXT}
# Float32 weights need far less, and sums of exponents stay inside 16 bits.
MAX_EXPONENT = 2**10
MAX_EPS = 2**48
# This keeps the result of a projection below 2^31 in magnitude.
MIN_ROW_SHIFT = 16


class WeightRecord(Protocol):
    """The interface of a stored tensor."""

    @property
    def dims(self) -> tuple[int, ...]:
        """Return the shape."""

    @property
    def data(self) -> NDArray[np.int8]:
        """Return the codes or packed integers."""


@dataclass(frozen=True, kw_only=True)
class HybridShape:
    """The three sizes of hybrid attention, and the id that begins a document."""

    # Positions in the window, a multiple of those in a stride.
    window: int
    stride: int
    # Summaries that are readable at once.
    ring: int
    # None where a sequence is one document.
    document_start: int | None = None
    # Bits of cached codes that the file allows; the first is the default.
    kv_bits: tuple[int, ...] = (8,)


@dataclass(frozen=True, kw_only=True)
class ModelShape:
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
    # Layers of each expert's own stack, after the trunk of n_layers.
    stack_layers: int = 0
    # None for causal attention.
    hybrid: HybridShape | None = None
    # Bits of the cached codes in use: 8, 6 or 4 under hybrid attention.
    kv_bits: int = 8

    @property
    def law_version(self) -> int:
        """Return the version of specs/arithmetic.md that computes the model."""
        return HYBRID_LAW_VERSION if self.hybrid else LAW_VERSION


@dataclass(frozen=True, kw_only=True)
class FeedForwardWeights:
    """One SwiGLU network."""

    gate: QuantizedLinear
    up: QuantizedLinear
    down: QuantizedLinear


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One block."""

    attn_norm: Norm
    q: QuantizedLinear
    k: QuantizedLinear
    v: QuantizedLinear
    o: QuantizedLinear
    ffn_norm: Norm
    # One network, unless tokens are routed.
    experts: tuple[FeedForwardWeights, ...]
    # Scores of summaries, [2 * K, D]: those of keys, then those of values. Hybrid attention only.
    summary: QuantizedLinear | None = None


@dataclass(frozen=True, kw_only=True)
class IntegerModel:
    """The arrays that inference reads. They are never written."""

    shape: ModelShape
    embedding_VD: NDArray[np.int8]
    embedding_m_V: StoredInts
    embedding_s_V: StoredInts
    # As narrow as it is stored: in a long context it is the largest table.
    rope_CP2: StoredInts
    router_V: Ints
    layers: tuple[Layer, ...]
    final_norm: Norm
    head: QuantizedLinear
    # One of shape.stack_layers for each expert, or none.
    stacks: tuple[tuple[Layer, ...], ...] = ()


class _Loader:
    """Looks up records and exponents. Every missing or unfit value is an ArtifactError that names
    it.
    """

    def __init__(self, records: Mapping[str, WeightRecord], graph: Mapping[str, Json], where: str) -> None:
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
        """Return big-endian 16-bit integers, which are stored as pairs of bytes along the last
        axis.
        """
        return as_ints(self.stored(name, dims, kind))

    def stored(self, name: str, dims: tuple[int, ...], kind: str) -> StoredInts:
        """Return `packed` in the width of the file."""
        return np.ascontiguousarray(self.record(name, dims)).view(kind)

    def integer(self, *keys: str, least: int, most: int) -> int:
        value: Json = self.graph
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if type(value) is not int or not least <= value <= most:
            raise self.fail(
                f"the graph's {'.'.join(keys)} is {value!r}, not an integer from {least} to {most}"
            )
        return value

    def exponent(self, *keys: str) -> int:
        return self.integer(*keys, least=-MAX_EXPONENT, most=MAX_EXPONENT)

    def rows(self, name: str, n_rows: int) -> tuple[StoredInts, StoredInts]:
        stored = self.stored(f"{name}.rows", (n_rows, 4), ">u2").astype(np.int32)
        return stored[:, 0], stored[:, 1]

    def linear(self, name: str, n_out: int, n_in: int) -> QuantizedLinear:
        weight = self.codes(name, (n_out, n_in))
        m, s = self.rows(name, n_out)
        if int(s.min()) < MIN_ROW_SHIFT:
            raise self.fail(f"record {name + '.rows'!r} has a shift of {int(s.min())}, below {MIN_ROW_SHIFT}")
        return QuantizedLinear(
            codes_OI=weight, row_m_O=m, row_s_O=s, exponent=self.exponent("exponents", name)
        )

    def norm(self, name: str, d_model: int) -> Norm:
        gain = self.packed(f"{name}.gain", (d_model, 2), ">i2")[:, 0]
        eps = self.integer("norm_eps", least=0, most=MAX_EPS)
        return Norm(gain_D=gain, exponent=self.exponent("exponents", name), eps=eps)


def _check_law(load: _Loader) -> int:
    """Return the version of the arithmetic. Refuse a file that was made under another one, or with
    other tables.
    """
    stated = load.graph.get("arithmetic")
    for version in (LAW_VERSION, HYBRID_LAW_VERSION):
        if stated == {"version": version, "tables": law_digest()}:
            return version
    raise load.fail(
        f"the graph's arithmetic is {stated!r}, this engine computes versions {LAW_VERSION} and "
        f"{HYBRID_LAW_VERSION} with tables {law_digest()[:16]}"
    )


def _hybrid_shape(load: _Loader, version: int, vocab_size: int) -> HybridShape | None:
    """Return the sizes of hybrid attention, None in a file of version 1."""
    if version == LAW_VERSION:
        return None
    values = {n: load.integer("attention", n, least=1, most=most) for n, most in ATTENTION_LIMITS.items()}
    if values["window"] % values["stride"]:
        raise load.fail(f"the graph's window {values['window']} is no multiple of its stride")
    start = None
    if load.graph["attention"].get("document_start") is not None:
        start = load.integer("attention", "document_start", least=0, most=vocab_size - 1)
    choices = load.graph["attention"].get("kv_bits")
    if not isinstance(choices, list) or not choices or any(b not in (4, 6, 8) for b in choices):
        raise load.fail(f"the graph's attention.kv_bits is {choices!r}, not a list of 4, 6 or 8")
    return HybridShape(**values, document_start=start, kv_bits=tuple(choices))


def _shape(load: _Loader, version: int) -> tuple[ModelShape, int, int]:
    """Return the shape, d_ffn, and the d_ffn of the expert stacks (0 without)."""
    values = {name: load.integer("model", name, least=1, most=most) for name, most in LIMITS.items()}
    d_ffn = values.pop("d_ffn")
    stack = dict.fromkeys(STACK_LIMITS, 0)
    if stack.keys() & load.graph["model"].keys():
        stack = {name: load.integer("model", name, least=1, most=most) for name, most in STACK_LIMITS.items()}
        if values["n_experts"] < 2:
            raise load.fail("the graph has an expert stack, but one expert")
    if values["n_heads"] % values["n_kv_heads"] or values["head_dim"] % 2:
        raise load.fail("the graph's heads do not divide evenly")
    if values["n_heads"] * values["head_dim"] > MAX_INPUTS:
        raise load.fail(
            f"the graph's heads are {values['n_heads'] * values['head_dim']} wide, past {MAX_INPUTS}"
        )
    hybrid = _hybrid_shape(load, version, values["vocab_size"])
    shape = ModelShape(
        **values,
        stack_layers=stack["stack_layers"],
        hybrid=hybrid,
        kv_bits=hybrid.kv_bits[0] if hybrid else 8,
        residual_exponent=load.exponent("residual_exponent"),
        score_m=load.integer("score_scale", "m", least=2**15, most=2**16 - 1),
        score_e=load.exponent("score_scale", "e"),
    )
    return shape, d_ffn, stack["stack_d_ffn"]


def _layer(load: _Loader, shape: ModelShape, prefix: str, d_ffn: int) -> Layer:
    d_model = shape.d_model
    d_q, d_kv = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim

    def feed_forward(base: str) -> FeedForwardWeights:
        return FeedForwardWeights(
            gate=load.linear(f"{base}.gate_proj.weight", d_ffn, d_model),
            up=load.linear(f"{base}.up_proj.weight", d_ffn, d_model),
            down=load.linear(f"{base}.down_proj.weight", d_model, d_ffn),
        )

    is_routed = shape.n_experts > 1 and not shape.stack_layers
    bases = [f"{prefix}.ffn.experts.{e}" for e in range(shape.n_experts)] if is_routed else [f"{prefix}.ffn"]
    return Layer(
        attn_norm=load.norm(f"{prefix}.attn_norm.weight", d_model),
        q=load.linear(f"{prefix}.attn.q_proj.weight", d_q, d_model),
        k=load.linear(f"{prefix}.attn.k_proj.weight", d_kv, d_model),
        v=load.linear(f"{prefix}.attn.v_proj.weight", d_kv, d_model),
        o=load.linear(f"{prefix}.attn.o_proj.weight", d_model, d_q),
        ffn_norm=load.norm(f"{prefix}.ffn_norm.weight", d_model),
        experts=tuple(feed_forward(base) for base in bases),
        summary=load.linear(f"{prefix}.attn.summary_proj.weight", 2 * shape.n_kv_heads, d_model)
        if shape.hybrid
        else None,
    )


def with_kv_bits(model: IntegerModel, bits: int | None) -> IntegerModel:
    """Return the model with cached codes of `bits` bits; None keeps the default of the file.

    Raises:
        UsageError: the file does not allow them.
    """
    allowed = model.shape.hybrid.kv_bits if model.shape.hybrid else (8,)
    if bits is None or bits == model.shape.kv_bits:
        return model
    if bits not in allowed:
        raise UsageError(
            f"the file does not allow keys and values of {bits} bits",
            where="kv_bits",
            remedy=f"use one of {', '.join(map(str, allowed))}",
        )
    return replace(model, shape=replace(model.shape, kv_bits=bits))


def load_weights(records: Mapping[str, WeightRecord], graph: Mapping[str, Json], where: str) -> IntegerModel:
    """Build the model. `where` names the file in errors.

    Raises:
        ArtifactError: a record or a graph entry is missing, misshapen or out of range.
    """
    load = _Loader(records, graph, where)
    shape, d_ffn, stack_d_ffn = _shape(load, _check_law(load))
    vocab, d_model = shape.vocab_size, shape.d_model
    embedding_m, embedding_s = load.rows(EMBEDDING, vocab)
    if shape.n_experts > 1:
        router = load.record(ROUTER, (vocab, 1)).astype(np.int64)[:, 0]
        if router.min() < 0 or router.max() >= shape.n_experts:
            raise load.fail(f"record {ROUTER!r} names an expert outside 0 .. {shape.n_experts - 1}")
    else:
        router = np.zeros(vocab, np.int64)
    rope = load.stored(ROPE, (shape.context, shape.head_dim // 2, 2, 2), ">i2")[..., 0].astype(np.int16)
    return IntegerModel(
        shape=shape,
        embedding_VD=load.codes(EMBEDDING, (vocab, d_model)),
        embedding_m_V=embedding_m,
        embedding_s_V=embedding_s,
        rope_CP2=rope,
        router_V=router,
        layers=tuple(_layer(load, shape, f"layers.{i:02d}", d_ffn) for i in range(shape.n_layers)),
        final_norm=load.norm(FINAL_NORM, d_model),
        head=load.linear(HEAD, vocab, d_model),
        stacks=tuple(
            tuple(
                _layer(load, shape, f"experts.{e}.layers.{i:02d}", stack_d_ffn)
                for i in range(shape.stack_layers)
            )
            for e in range(shape.n_experts if shape.stack_layers else 0)
        ),
    )
