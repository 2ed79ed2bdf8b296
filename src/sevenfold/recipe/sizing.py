"""Compute the exact size of a model and the cost of a token from the shape alone, without PyTorch.

`tensors` lists every stored tensor by name, with its shape. Counts, bytes and FLOPs are sums over it,
so they always agree. A test compares it with the model built on PyTorch's meta device. Nothing is
allocated.

FLOPs per token, forward (a multiply-add is two):

    2 x (elements of the matrices a token passes, the head included)
    + 4 x n_layers x n_heads x head_dim x L

where L is the mean number of keys attended to: (S + 1) / 2 for causal attention over S tokens.
Hybrid attention sees its local window, and one summary for each stride before it, of which the ring
keeps the newest (specs/attention.md). Backward costs twice forward. The embedding look-up, norms,
softmax, activations and the means of summaries are not counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sevenfold.recipe.schema import ExpertStacks, HybridAttentionSpec, ModelSpec, TokenRouted

Shape = tuple[int, ...]
Part = Literal["embedding", "head", "attention", "ffn", "norm"]


@dataclass(frozen=True, kw_only=True)
class Component:
    """A row of the table of a model's parts.

    `int8_bytes` counts one byte for each element, without scales and names.
    """

    name: str
    parameters: int
    # Whether every token passes it, whatever its expert.
    active: bool

    @property
    def fp32_bytes(self) -> int:
        """Return the bytes in FP32."""
        return 4 * self.parameters

    @property
    def int8_bytes(self) -> int:
        """Return the bytes in INT8."""
        return self.parameters


def _attention(model: ModelSpec, prefix: str) -> dict[str, Shape]:
    q, kv = model.n_heads * model.head_dim, model.n_kv_heads * model.head_dim
    table: dict[str, Shape] = {
        f"{prefix}.attn_norm.weight": (model.d_model,),
        f"{prefix}.attn.q_proj.weight": (q, model.d_model),
        f"{prefix}.attn.k_proj.weight": (kv, model.d_model),
        f"{prefix}.attn.v_proj.weight": (kv, model.d_model),
        f"{prefix}.attn.o_proj.weight": (model.d_model, q),
    }
    if isinstance(model.attention, HybridAttentionSpec):
        table[f"{prefix}.attn.summary_proj.weight"] = (2 * model.n_kv_heads, model.d_model)
    return table | {f"{prefix}.ffn_norm.weight": (model.d_model,)}


def _ffn(d_model: int, d_ffn: int, prefix: str) -> dict[str, Shape]:
    return {
        f"{prefix}.gate_proj.weight": (d_ffn, d_model),
        f"{prefix}.up_proj.weight": (d_ffn, d_model),
        f"{prefix}.down_proj.weight": (d_model, d_ffn),
    }


def tensors(model: ModelSpec) -> dict[str, Shape]:
    """Return the shape of every tensor of the float model by name, in model order. A tied head is
    not a separate tensor.
    """
    table: dict[str, Shape] = {"embedding.weight": (model.vocab_size, model.d_model)}
    for layer in range(model.n_layers):
        prefix = f"layers.{layer:02d}"
        table |= _attention(model, prefix)
        if isinstance(model.moe, TokenRouted):
            for expert in range(len(model.moe.experts)):
                table |= _ffn(model.d_model, model.d_ffn, f"{prefix}.ffn.experts.{expert}")
        else:
            table |= _ffn(model.d_model, model.d_ffn, f"{prefix}.ffn")
    if isinstance(model.moe, ExpertStacks):
        for expert in range(len(model.moe.experts)):
            for layer in range(model.moe.n_layers):
                prefix = f"experts.{expert}.layers.{layer:02d}"
                table |= _attention(model, prefix)
                table |= _ffn(model.d_model, model.moe.d_ffn, f"{prefix}.ffn")
    table["final_norm.weight"] = (model.d_model,)
    if not model.tied:
        table["lm_head.weight"] = (model.vocab_size, model.d_model)
    return table


def count(model: ModelSpec) -> int:
    """Return the parameters of the float model, exactly."""
    return sum(math.prod(shape) for shape in tensors(model).values())


def part_of(name: str) -> Part:
    """Return the part of the decoder that a tensor belongs to."""
    if name == "embedding.weight":
        return "embedding"
    if name == "lm_head.weight":
        return "head"
    if name.endswith("norm.weight"):
        return "norm"
    return "attention" if ".attn." in name else "ffn"


def expert_of(name: str) -> int | None:
    """Return the index of the expert that a tensor belongs to, or None for a shared tensor."""
    words = name.split(".")
    return int(words[words.index("experts") + 1]) if "experts" in words else None


def components(model: ModelSpec) -> list[Component]:
    """Return the model by part: the shared parts (embedding, attention, ffn, norms, head), then each
    expert as a whole.
    """
    names = model.moe.experts if model.moe else ()
    sums: dict[tuple[int, str], int] = {}
    for name, shape in tensors(model).items():
        expert = expert_of(name)
        key = (-1, part_of(name)) if expert is None else (expert, f"expert {names[expert]}")
        sums[key] = sums.get(key, 0) + math.prod(shape)
    shared = [
        Component(name=part, parameters=n, active=True) for (expert, part), n in sums.items() if expert < 0
    ]
    experts = [
        Component(name=part, parameters=n, active=False) for (expert, part), n in sums.items() if expert >= 0
    ]
    return shared + experts


def expert_parameters(model: ModelSpec) -> int:
    """Return the parameters of one expert (all layers); 0 for a dense model.

    Experts are equal in size.
    """
    return sum(math.prod(shape) for name, shape in tensors(model).items() if expert_of(name) == 0)


def trunk_parameters(model: ModelSpec) -> int:
    """Return the parameters that every token shares, embedding included."""
    return sum(math.prod(shape) for name, shape in tensors(model).items() if expert_of(name) is None)


def active_parameters(model: ModelSpec) -> int:
    """Return the parameters that serve one token: the trunk and one expert."""
    return trunk_parameters(model) + expert_parameters(model)


def n_attention_layers(model: ModelSpec) -> int:
    """Return the layers of attention that one token passes."""
    return model.n_layers + (model.moe.n_layers if isinstance(model.moe, ExpertStacks) else 0)


def ring_size(model: ModelSpec) -> int:
    """Return the largest number of summaries that one token may read: as many as the context has
    strides, or 0 for causal attention.
    """
    if not isinstance(model.attention, HybridAttentionSpec):
        return 0
    return -(-model.context // model.attention.global_stride)


def mean_attended(model: ModelSpec, sequence: int) -> float:
    """Return the exact mean number of keys that a token attends to in a sequence of `sequence` tokens,
    itself included.
    """
    if not isinstance(model.attention, HybridAttentionSpec):
        return (sequence + 1) / 2
    stride, ring = model.attention.global_stride, ring_size(model)
    window = min(model.attention.local_chunk, sequence)
    local = window * (window + 1) // 2 + (sequence - window) * window
    # The token that completes a stride reads one summary more than the token before, until the ring
    # is full: n tokens past the first complete stride read 1 to `strides` summaries, a stride of
    # tokens each, and the last is cut short.
    strides, rest = divmod(sequence + 1, stride)
    rising = min(strides - 1, ring)
    summaries = stride * (rising * (rising + 1) // 2 + (strides - 1 - rising) * ring) + rest * min(
        strides, ring
    )
    return (local + max(0, summaries)) / sequence


def flops_parts(model: ModelSpec, sequence: int) -> dict[str, float]:
    """Return the forward FLOPs of one token by part: `trunk` (shared layers), `expert` (one of them),
    `head`.

    The formula is in the module docstring. `sequence` is the length of the token's sequence.
    """
    parts = {"trunk": 0.0, "expert": 0.0, "head": 2.0 * model.vocab_size * model.d_model}
    for name, shape in tensors(model).items():
        if part_of(name) in ("attention", "ffn") and expert_of(name) in (None, 0):
            parts["trunk" if expert_of(name) is None else "expert"] += 2.0 * math.prod(shape)
    scores = 4.0 * model.n_heads * model.head_dim * mean_attended(model, sequence)
    parts["trunk"] += scores * model.n_layers
    if isinstance(model.moe, ExpertStacks):
        parts["expert"] += scores * model.moe.n_layers
    return parts


def forward_flops(model: ModelSpec, sequence: int) -> float:
    """Return the FLOPs of one token's forward pass through the trunk, one expert and the head."""
    return sum(flops_parts(model, sequence).values())


def kv_bytes_per_token(model: ModelSpec, bits: int = 8) -> int:
    """Return the bytes of one entry of the cache: a key and a value of every layer and key/value
    head.
    """
    if isinstance(model.attention, HybridAttentionSpec):
        bits = model.attention.kv_quant_bits
    return 2 * n_attention_layers(model) * model.n_kv_heads * model.head_dim * bits // 8


def kv_entries(model: ModelSpec, length: int) -> int:
    """Return the number of cache entries after `length` tokens: one for each, or the window and the
    summaries (specs/attention.md).
    """
    block = model.attention
    if not isinstance(block, HybridAttentionSpec):
        return length
    return min(length, block.local_chunk) + min(length // block.global_stride, ring_size(model))
