"""Quantise float weights to INT8 per row, and replace every scale by an integer multiplier (B4,
specs/arithmetic.md section 6).

scale_row = max|w_row| / 127; code = round half up(w / scale), within +-127. Every later factor of a
code is folded into 16-bit mantissas here, once, in float64: the 1/127 of dynamic activations,
sqrt(d_model) of the norms, log2(e)/sqrt(head_dim) of the scores. All further computation uses
integers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sevenfold.artifact import operation
from sevenfold.core.errors import RecipeError
from sevenfold.core.hashing import Json
from sevenfold.core.numbers.fixed import CODE_MAX, KV_CODES
from sevenfold.core.numbers.tables import HYBRID_LAW_VERSION, LAW_VERSION, law_digest, rope
from sevenfold.engine.ops import headroom
from sevenfold.engine.weights import EMBEDDING, FINAL_NORM, HEAD, ROPE, ROUTER
from sevenfold.recipe.rotation import model_frequencies, temperature
from sevenfold.recipe.schema import ExpertStacks, HybridAttentionSpec, ModelSpec

Floats = NDArray[np.float64]
# The constant is written out, because a C library would decide its last bit.
LOG2_E = 1.4426950408889634
MAX_ROW_SHIFT = 62
ROW_MULTIPLIER_BITS = 15
GAIN_BITS = 15
RESIDUAL_EXPONENT = 16
# One bit of headroom below the bound |x| < 2^28 of the arithmetic.
RESIDUAL_BITS = 27


@dataclass(frozen=True, kw_only=True)
class IntTensor:
    """One record of the FIELD lane.

    `scale` is the nominal scale, for readers that do not know row scales.
    """

    name: str
    dims: tuple[int, ...]
    scale: float
    data: NDArray[np.int8]


def mantissa(value: float) -> tuple[int, int]:
    """Return (m, s) with value ~ m * 2^-s, m in [2^15, 2^16); (0, 62) when
    value is zero or below 2^-47.
    """
    if value <= 0.0:
        return 0, MAX_ROW_SHIFT
    fraction, exponent = math.frexp(value)
    m, s = math.floor(fraction * 65536 + 0.5), 16 - exponent
    if m == 65536:
        m, s = 32768, s - 1
    return (m, s) if s <= MAX_ROW_SHIFT else (0, MAX_ROW_SHIFT)


def quantize_rows(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Return the codes [O, I] and scale of each row [O] (0 for a row of zeros)."""
    scale = np.max(np.abs(weight), axis=1) / CODE_MAX
    safe = np.where(scale > 0, scale, 1.0)
    codes = np.clip(np.floor(weight / safe[:, None] + 0.5), -CODE_MAX, CODE_MAX)
    return codes.astype(np.int8), scale


def pack16(values: NDArray[np.int64], kind: str) -> NDArray[np.int8]:
    """Return 16-bit integers as big-endian byte pairs along a new last
    axis, merged into the one before.
    """
    return np.ascontiguousarray(values).astype(kind).view(np.int8).reshape(*values.shape, 2)


class Converter:
    """Collects records and exponents of one model."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.records: list[IntTensor] = []
        self.exponents: dict[str, int] = {}

    def add(self, name: str, data: NDArray[np.int8], scale: float = 1.0) -> None:
        self.records.append(IntTensor(name=name, dims=data.shape, scale=float(np.float32(scale)), data=data))

    def _rows(self, name: str, ratios: list[float]) -> None:
        packed = np.array([mantissa(r) for r in ratios], np.int64)
        self.add(f"{name}.rows", pack16(packed, ">u2").reshape(len(ratios), 4))

    def embedding(self, weight: Floats, residual_exponent: int) -> None:
        """Add the embedding rows, scaled into residual units."""
        codes, scale = quantize_rows(weight)
        self.add(EMBEDDING, codes, float(scale.max()))
        self._rows(EMBEDDING, [math.ldexp(float(s), residual_exponent) for s in scale])

    def linear(self, name: str, weight: Floats, input_folds: int = 1, factor: float = 1.0) -> None:
        """Add a projection whose input codes still need `input_folds` factors of 1/127, and whose
        outputs are multiplied by `factor`.
        """
        codes, scale = quantize_rows(weight)
        self.add(name, codes, float(scale.max()))
        real = scale * factor / CODE_MAX**input_folds
        lift = headroom(weight.shape[1])
        # The largest row gets a multiplier in [1/4, 1/2), so its shift is at least 17, and |y| <
        # 2^29.
        _, top = math.frexp(float(real.max()) or 1.0)
        exponent = lift - 1 - top
        self._rows(name, [math.ldexp(float(r), exponent - lift) for r in real])
        self.exponents[name] = exponent

    def layer_weight(self, name: str, value: Floats) -> None:
        """Add a norm or a projection of a layer, or the last norm."""
        if value.ndim == 1:
            self.norm(name, value)
            return
        # The output of attention carries the 1/127 of V besides that of its own quantisation.
        folds = 2 if name.endswith("o_proj.weight") else 1
        # Scores of summaries are weighted by powers of two.
        factor = LOG2_E if name.endswith("summary_proj.weight") else 1.0
        self.linear(name, value, folds, factor)

    def norm(self, name: str, gain: Floats) -> None:
        """Add norm gains times sqrt(d_model), as i16 with one exponent."""
        real = gain * math.sqrt(self.spec.d_model)
        _, top = math.frexp(float(np.max(np.abs(real))) or 1.0)
        exponent = GAIN_BITS - top
        limit = (1 << GAIN_BITS) - 1
        values = np.clip(np.floor(np.ldexp(real, exponent) + 0.5), -limit, limit).astype(np.int64)
        self.add(f"{name}.gain", pack16(values, ">i2"))
        self.exponents[name] = exponent


def residual_exponent(largest: float) -> int:
    """Return the fraction bits of the residual: 16, or fewer where twice the largest seen |x| would
    exceed the range.
    """
    _, top = math.frexp(max(largest, 1.0) * 2)
    return min(RESIDUAL_EXPONENT, RESIDUAL_BITS - top)


def _rope_table(spec: ModelSpec) -> NDArray[np.int8]:
    try:
        turns = model_frequencies(spec, spec.rope_scaling)
    except ValueError as error:
        raise RecipeError(str(error), where="model.rope_scaling.kind") from error
    return pack16(rope(turns, spec.context).astype(np.int64), ">i2")


def _attention_shape(spec: ModelSpec, document_start: int | None) -> dict[str, Json]:
    """Return the graph's entry for hybrid attention, empty for causal attention."""
    block = spec.attention
    if not isinstance(block, HybridAttentionSpec):
        return {}
    ring = -(-spec.context // block.global_stride)
    start = {} if document_start is None else {"document_start": document_start}
    # The gate is measured with the fewest bits, so more of them are allowed.
    bits = [width for width in sorted(KV_CODES) if width >= block.kv_quant_bits]
    sizes = {"window": block.local_chunk, "stride": block.global_stride, "ring": ring}
    return {**sizes, **start, "kv_bits": bits}


def convert(
    state: Mapping[str, NDArray[np.float32]],
    spec: ModelSpec,
    largest_residual: float,
    router: list[int] | None = None,
    document_start: int | None = None,
) -> tuple[list[IntTensor], dict[str, Json]]:
    """Return the integer records (in name order) and the graph that the engine loads.

    Args:
        state: float weights by name, as in `model.Transformer`.
        largest_residual: largest |x| seen on the residual stream in calibration.
        router: expert of each token id, for token-routed models and expert stacks.
        document_start: id at which hybrid attention begins anew; None reads a sequence as one
            document.

    Raises:
        RecipeError: what the law does not define (a rope scaling), or experts without a router.
    """
    if (router is None) != (spec.moe is None):
        raise RecipeError("experts and a router table go together", where="model.moe")
    converter = Converter(spec)
    weights = {name: value.astype(np.float64) for name, value in state.items()}
    largest_weight = float(np.max(np.abs(weights[EMBEDDING])))
    _, top = math.frexp(largest_weight / CODE_MAX)
    # The residual starts as an embedding row. Its multiplier scale * 2^exponent must have a shift
    # of at least 0.
    exponent = min(residual_exponent(max(largest_residual, largest_weight)), ROW_MULTIPLIER_BITS - top)
    converter.embedding(weights[EMBEDDING], exponent)
    converter.linear(HEAD, weights.get(HEAD, weights[EMBEDDING]))
    for name, value in weights.items():
        if name not in (EMBEDDING, HEAD):
            converter.layer_weight(name, value)
    converter.add(ROPE, _rope_table(spec))
    n_experts = len(spec.moe.experts) if spec.moe else 1
    stacks = spec.moe if isinstance(spec.moe, ExpertStacks) else None
    stack_shape = {"stack_layers": stacks.n_layers, "stack_d_ffn": stacks.d_ffn} if stacks else {}
    if router is not None:
        converter.add(ROUTER, np.array(router, np.int8)[:, None])
    # The temperature of YaRN multiplies both sides of every score, that of a summary too.
    score = LOG2_E * temperature(spec.rope_scaling) ** 2 / math.sqrt(spec.head_dim) / CODE_MAX**2
    hybrid = _attention_shape(spec, document_start)
    score_m, score_e = mantissa(score)
    shape = ("d_model", "n_layers", "n_heads", "n_kv_heads", "head_dim", "d_ffn", "vocab_size", "context")
    graph: dict[str, Json] = {
        "arithmetic": {"version": HYBRID_LAW_VERSION if hybrid else LAW_VERSION, "tables": law_digest()},
        "model": {name: getattr(spec, name) for name in shape} | {"n_experts": n_experts} | stack_shape,
        "residual_exponent": exponent,
        "norm_eps": math.floor(math.ldexp(spec.norm_eps * spec.d_model, 2 * exponent)),
        "score_scale": {"m": score_m, "e": score_e},
        "exponents": dict(sorted(converter.exponents.items())),
        "operations": operations(spec.n_layers, n_experts, stacks.n_layers if stacks else 0),
    }
    if hybrid:
        graph["attention"] = hybrid
    if FINAL_NORM not in converter.exponents:
        raise RecipeError("the checkpoint has no final_norm.weight", remedy="train again with this version")
    return sorted(converter.records, key=lambda r: r.name.encode()), graph


def operations(n_layers: int, n_experts: int, stack_layers: int = 0) -> list[dict[str, Json]]:
    """Return the computation as data, in order. Each operation names its one fold (rule V1).

    Attention writes its keys and values into FIELD-lane structures (A8). Nothing else changes
    state. `*` is the expert that the first id of the sequence chose.
    """

    def compute(op: str, *reads: str, writes: tuple[str, ...] = ()) -> dict[str, Json]:
        return operation(op, "COMPUTE", writes, reads=list(reads))

    ops = [compute("embed", EMBEDDING)]
    routed = n_experts > 1 and not stack_layers
    stack = [f"experts.*.layers.{index:02d}" for index in range(stack_layers)]
    for layer in [*(f"layers.{index:02d}" for index in range(n_layers)), *stack]:
        if layer in stack[:1]:
            ops.append(compute("choose_stack", ROUTER))
        ops += [
            compute("rms_norm", f"{layer}.attn_norm.weight"),
            compute("attention", f"{layer}.attn", ROPE, writes=("FIELD",)),
            compute("add_residual"),
            compute("rms_norm", f"{layer}.ffn_norm.weight"),
            compute("swiglu_routed", f"{layer}.ffn", ROUTER) if routed else compute("swiglu", f"{layer}.ffn"),
            compute("add_residual"),
        ]
    return [*ops, compute("rms_norm", FINAL_NORM), compute("head", HEAD), compute("argmax")]
