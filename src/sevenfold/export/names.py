"""Map our tensor names to those of other formats in one table, and check what those formats can
express.

Hugging Face rotates half-split pairs, as we do. `llama` of GGUF rotates neighbours, so rows of q
and k are stored in another order there (`interleave`). The angles are the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from sevenfold.core.errors import UsageError
from sevenfold.export.store import Floats
from sevenfold.recipe.schema import ExpertStacks, ModelSpec, Recipe, TokenRouted
from sevenfold.recipe.sizing import tensors

# Our name, that of Hugging Face, that of GGUF; {} is the layer.
TABLE = (
    ("embedding.weight", "model.embed_tokens.weight", "token_embd.weight"),
    ("layers.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"),
    ("layers.{}.attn.q_proj.weight", "model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight"),
    ("layers.{}.attn.k_proj.weight", "model.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight"),
    ("layers.{}.attn.v_proj.weight", "model.layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight"),
    ("layers.{}.attn.o_proj.weight", "model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight"),
    (
        "layers.{}.ffn_norm.weight",
        "model.layers.{}.post_attention_layernorm.weight",
        "blk.{}.ffn_norm.weight",
    ),
    ("layers.{}.ffn.gate_proj.weight", "model.layers.{}.mlp.gate_proj.weight", "blk.{}.ffn_gate.weight"),
    ("layers.{}.ffn.up_proj.weight", "model.layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight"),
    ("layers.{}.ffn.down_proj.weight", "model.layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight"),
    ("final_norm.weight", "model.norm.weight", "output_norm.weight"),
    ("lm_head.weight", "lm_head.weight", "output.weight"),
)
_COLUMN = {"hf": 1, "gguf": 2}


def foreign_name(name: str, kind: str) -> str:
    """Return the foreign name of one of our tensors in `hf` or `gguf`."""
    layer = re.search(r"\.(\d\d)\.", name)
    form = name.replace(layer.group(), ".{}.") if layer else name
    row = next(row for row in TABLE if row[0] == form)
    return row[_COLUMN[kind]].format(int(layer.group(1)) if layer else "")


def foreign_names(spec: ModelSpec, kind: str) -> dict[str, str]:
    """Return a table from our name to the foreign one, for every tensor of the model in model
    order.
    """
    return {name: foreign_name(name, kind) for name in tensors(spec)}


def n_rotated(name: str, spec: ModelSpec) -> int:
    """Return the number of heads whose rows GGUF stores in another order; 0 for a tensor that it
    stores unchanged.
    """
    if name.endswith("attn.q_proj.weight"):
        return spec.n_heads
    return spec.n_kv_heads if name.endswith("attn.k_proj.weight") else 0


def interleave(weight: Floats, n_heads: int) -> Floats:
    """Reorder half-split pairs (i, i + E/2) as neighbours (2i, 2i + 1). [H * E, D] -> the same
    shape.
    """
    shape = weight.shape
    return np.ascontiguousarray(weight.reshape(n_heads, 2, -1, shape[1]).swapaxes(1, 2)).reshape(shape)


def deinterleave(weight: Floats, n_heads: int) -> Floats:
    """Return the inverse of `interleave`."""
    shape = weight.shape
    return np.ascontiguousarray(weight.reshape(n_heads, -1, 2, shape[1]).swapaxes(1, 2)).reshape(shape)


def reader(read: Callable[[str], Floats], spec: ModelSpec) -> Callable[[str], Floats]:
    """Return `read` with the rows of q and k in the order of GGUF."""

    def turned(name: str) -> Floats:
        heads = n_rotated(name, spec)
        return interleave(read(name), heads) if heads else read(name)

    return turned


def check_expressible(spec: ModelSpec) -> None:
    """Refuse a model that a Llama cannot express, with the reason and the nearest alternative.

    Raises UsageError.
    """
    scaling = spec.rope_scaling.kind
    reasons = (
        (
            isinstance(spec.moe, TokenRouted),
            (
                "token-routed experts: the token's own text picks the expert, and no other runtime has that"
                " router"
            ),
            (
                "export the sealed file with --to bundle; the nearest model that leaves is the dense recipe"
                " of its size"
            ),
        ),
        (
            isinstance(spec.moe, ExpertStacks),
            "expert stacks: a trunk with a stack of layers for each domain is not a Llama",
            "seal it; the nearest model that can be exported is a dense one",
        ),
        (
            spec.attention != "causal",
            "hybrid attention: local windows with summaries are not a Llama",
            "seal it; the nearest model that can be exported has attention: causal",
        ),
        (
            scaling == "yarn",
            "YaRN, which this version does not train",
            "rope_scaling none, linear or ntk can be exported",
        ),
    )
    for is_so, what, remedy in reasons:
        if is_so:
            raise UsageError(f"the model has {what}", where="model", remedy=remedy)


def outlook(recipe: Recipe) -> str:
    """Return a line that names the export targets of a recipe, for display before training."""
    try:
        check_expressible(recipe.model)
    except UsageError as error:
        return f"exports: bundle; nothing else, {error.what}"
    spec = recipe.tokenizer
    if spec.algo != "bpe" or spec.preserve:
        kind = "protected symbols" if spec.algo == "bpe" else f"{spec.algo} over bytes"
        return f"exports: hf, safetensors, bundle; no gguf, because llama.cpp has no name for {kind}"
    if spec.pieces == "llama3":
        return "exports: gguf, hf, safetensors, bundle"
    return (
        "exports: hf, safetensors, bundle; gguf for ids only, because llama.cpp has no name for"
        f" tokenizer.pieces: {spec.pieces} (llama3 exports completely, at 2.5 % more tokens)"
    )
