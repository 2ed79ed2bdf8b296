"""Tiny models of every shape the engine runs, made from random float weights through the converter.

No torch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sevenfold.engine import reference
from sevenfold.engine.weights import IntegerModel, load_weights
from sevenfold.quantize.convert import IntTensor, convert
from sevenfold.recipe.schema import (
    ExpertStacks,
    HybridAttentionSpec,
    ModelSpec,
    RopeScaling,
    TokenRouted,
)

State = dict[str, NDArray[np.float32]]
BASE: dict[str, Any] = {
    "d_model": 24,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 4,
    "head_dim": 6,
    "d_ffn": 10,
    "vocab_size": 37,
    "context": 24,
    "tied": False,
}
MOE = TokenRouted(kind="token_routed", experts=("code", "general"))
STACKS = ExpertStacks(kind="expert_stacks", experts=("code", "maths", "prose"), n_layers=2, d_ffn=7)


def _hybrid(window: int, stride: int, bits: int = 8) -> HybridAttentionSpec:
    return HybridAttentionSpec.model_construct(
        scheme="hybrid", local_chunk=window, global_stride=stride, kv_quant_bits=bits
    )


SHAPES: dict[str, dict[str, Any]] = {
    "dense": {},
    "tied": {"tied": True},
    "gqa": {"n_kv_heads": 2, "head_dim": 8},
    "mqa": {"n_kv_heads": 1, "n_heads": 3, "head_dim": 2, "d_model": 7, "d_ffn": 5},
    "moe": {"moe": MOE, "n_kv_heads": 2},
    "one": {"d_model": 1, "n_heads": 1, "n_kv_heads": 1, "head_dim": 2, "d_ffn": 1, "n_layers": 1},
    "wide_ffn": {"d_ffn": 97, "n_layers": 1, "vocab_size": 5},
    "stacks": {"moe": STACKS, "n_layers": 1, "n_kv_heads": 2},
}
# Law version 2. `far` goes past its window 16 times; the sizes of `odd` divide nothing.
YARN = RopeScaling.model_construct(kind="yarn", factor=4.0)
HYBRID_SHAPES: dict[str, dict[str, Any]] = {
    "hybrid": {"attention": _hybrid(8, 4), "context": 96},
    "hybrid_gqa": {"attention": _hybrid(6, 2), "n_kv_heads": 2, "head_dim": 8, "context": 96},
    "hybrid_yarn": {"attention": _hybrid(4, 4), "n_kv_heads": 2, "rope_scaling": YARN, "context": 96},
    "hybrid_far": {"attention": _hybrid(2, 1), "n_kv_heads": 1, "n_layers": 1, "context": 96},
    "hybrid_odd": {"attention": _hybrid(9, 3), "n_heads": 3, "n_kv_heads": 1, "head_dim": 2, "context": 97},
    "hybrid_6": {"attention": _hybrid(6, 2, 6), "n_kv_heads": 2, "context": 96},
    "hybrid_4": {"attention": _hybrid(6, 3, 4), "n_kv_heads": 2, "rope_scaling": YARN, "context": 96},
    "hybrid_stacks": {"attention": _hybrid(6, 3), "moe": STACKS, "n_layers": 1, "n_kv_heads": 2},
}


@dataclass(frozen=True)
class Tiny:
    """A converted model: its records and graph, and what the engine loads from them."""

    records: dict[str, IntTensor]
    graph: dict[str, Any]

    def load(self) -> IntegerModel:
        return load_weights(self.records, self.graph, "model.s7l")

    def raw(self) -> dict[str, tuple[tuple[int, ...], bytes]]:
        """Records as plain bytes, for the oracle."""
        return {name: (tuple(r.dims), r.data.tobytes()) for name, r in self.records.items()}

    def changed(self, change: Callable[[dict[str, IntTensor], dict[str, Any]], None]) -> Tiny:
        """A copy whose records and graph `change` has edited in place."""
        other = copy.deepcopy(self)
        change(other.records, other.graph)
        return other


def spec(shape: str = "dense", **changes: Any) -> ModelSpec:
    # `model_construct` skips the recipe's bounds: a vocabulary of 37 is fine for the engine.
    return ModelSpec.model_construct(**(BASE | (SHAPES | HYBRID_SHAPES)[shape] | changes))


def random_state(model: ModelSpec, seed: int = 0, std: float = 0.2) -> State:
    """Random weights by name; gains about 1."""
    rng = np.random.default_rng(seed)
    d, q, kv = model.d_model, model.n_heads * model.head_dim, model.n_kv_heads * model.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "embedding.weight": (model.vocab_size, d),
        "final_norm.weight": (d,),
    }
    if not model.tied:
        shapes["lm_head.weight"] = (model.vocab_size, d)
    stacks = model.moe if isinstance(model.moe, ExpertStacks) else None
    routed = model.moe and not stacks
    ffns = [f"ffn.experts.{i}" for i in range(2)] if routed else ["ffn"]
    blocks = [(f"layers.{index:02d}.", model.d_ffn) for index in range(model.n_layers)]
    if stacks:
        experts, layers = range(len(stacks.experts)), range(stacks.n_layers)
        blocks += [(f"experts.{e}.layers.{index:02d}.", stacks.d_ffn) for e in experts for index in layers]
    for base, d_ffn in blocks:
        shapes |= {f"{base}attn_norm.weight": (d,), f"{base}ffn_norm.weight": (d,)}
        shapes |= {f"{base}attn.q_proj.weight": (q, d), f"{base}attn.o_proj.weight": (d, q)}
        shapes |= {f"{base}attn.{name}_proj.weight": (kv, d) for name in "kv"}
        if model.attention != "causal":
            shapes[f"{base}attn.summary_proj.weight"] = (2 * model.n_kv_heads, d)
        for ffn in ffns:
            shapes |= {f"{base}{ffn}.{name}_proj.weight": (d_ffn, d) for name in ("gate", "up")}
            shapes[f"{base}{ffn}.down_proj.weight"] = (d, d_ffn)
    state = {name: rng.normal(0.0, std, dims) for name, dims in shapes.items()}
    return {n: (w if w.ndim == 2 else 1.0 + w).astype(np.float32) for n, w in state.items()}


def router(model: ModelSpec) -> list[int] | None:
    return [i * 7 // 3 % len(model.moe.experts) for i in range(model.vocab_size)] if model.moe else None


def tiny(
    shape: str = "dense",
    edit: Callable[[State], None] | None = None,
    *,
    largest: float = 8.0,
    document_start: int | None = None,
    ring: int | None = None,
    **changes: Any,
) -> Tiny:
    """A converted model. `edit` changes the float weights first."""
    model = spec(shape, **changes)
    state = random_state(model)
    if edit:
        edit(state)
    records, graph = convert(state, model, largest, router(model), document_start)
    if ring is not None:
        graph["attention"]["ring"] = ring
    return Tiny({r.name: r for r in records}, graph)


def ids(count: int, vocab_size: int = 37, seed: int = 5) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, vocab_size, count)


# Weights at the edges of what float32 holds. Each edits a state in place.


def _scale(part: str, factor: float) -> Callable[[State], None]:
    def edit(state: State) -> None:
        for name in state:
            if part in name:
                state[name] *= np.float32(factor)

    return edit


def _zero_everything(state: State) -> None:
    for weight in state.values():
        weight[...] = 0


def _zero_rows(state: State) -> None:
    for weight in state.values():
        weight[::2] = 0
    state["layers.00.attn.q_proj.weight"][...] = 0
    state["layers.00.attn.v_proj.weight"][...] = 0
    state["embedding.weight"][3:20] = 0


def _heavy_tails(state: State) -> None:
    rng = np.random.default_rng(9)
    for weight in state.values():
        weight *= np.exp2(rng.normal(0, 6, weight.shape)).astype(np.float32)


def _uneven_rows(state: State) -> None:
    for weight in state.values():
        weight *= (
            np.exp2(np.linspace(-90, 20, len(weight)))
            .astype(np.float32)
            .reshape(-1, *[1] * (weight.ndim - 1))
        )


def _one_direction(state: State) -> None:
    # Every code is +-127 and every accumulator is as large as it can be.
    for weight in state.values():
        weight[...] = np.where(weight < 0, -3, 3) if weight.ndim == 1 else 3


EXTREMES: dict[str, Callable[[State], None]] = {
    "zero": _zero_everything,
    "zero_rows": _zero_rows,
    "negative_gains": _scale("norm", -1.0),
    "huge_gains": _scale("norm", 1e20),
    "tiny_gains": _scale("norm", 1e-30),
    "huge_embedding": _scale("embedding", 1e6),
    "huge_residual": _scale("down_proj", 1e7),
    "huge_queries": _scale("q_proj", 1e6),
    "huge_values": _scale("v_proj", 1e15),
    "huge_gate": _scale("gate_proj", 1e5),
    "huge_head": _scale("lm_head", 1e9),
    "everything_huge": _scale("", 1e30),
    "everything_tiny": _scale("", 1e-38),
    "heavy_tails": _heavy_tails,
    "uneven_rows": _uneven_rows,
    "one_direction": _one_direction,
}


def same_cache(session: Any, cache: reference.Cache) -> None:
    """A backend's session holds the positions of the reference's cache, bit for bit."""
    assert session.length == cache.length
    seen = slice(0, cache.length)
    for index, held in enumerate(cache.layers):
        k, v = session.key_values(index)
        for got, expected in zip(
            (*k, *v), (held.k, held.k_m, held.k_e, held.v, held.v_m, held.v_e), strict=True
        ):
            assert np.array_equal(got, expected[seen])


def same_however_cut(engine: Any, weights: IntegerModel) -> None:
    """A backend's logits and cache are the reference's wherever a prompt is cut, id by id, and
    for its last position alone.
    """
    tokens, cache = ids(24), reference.Cache(weights.shape)
    expected = reference.forward(weights, tokens, cache)
    cuts = [np.split(tokens, [cut]) for cut in range(1, 24)]
    for parts in [*cuts, np.split(tokens, 24)]:
        session = engine.session()
        assert np.array_equal(
            np.concatenate([session.forward(part, last_only=len(part) == 1) for part in parts]), expected
        )
        same_cache(session, cache)
    assert np.array_equal(engine.session().forward(tokens, last_only=True), expected[-1:])
