"""The three models of specs/arithmetic.md, section 7, built as the page
says: no floats, no converter.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from tiny_models import Tiny

from sevenfold.core.numbers.tables import law_digest, rope, rope_frequencies
from sevenfold.quantize.convert import IntTensor

PROMPT, N_STEPS = [1, 2, 3, 10, 0], 6
SIZES = {
    "d_model": 8,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 2,
    "head_dim": 4,
    "d_ffn": 6,
    "vocab_size": 11,
    "context": 16,
}


def stream(name: str, count: int) -> list[int]:
    """The first bytes of a record."""
    raw, i = b"", 0
    while len(raw) < count:
        raw += hashlib.sha256(name.encode() + i.to_bytes(4, "big")).digest()
        i += 1
    return list(raw[:count])


def words(name: str, count: int) -> list[int]:
    b = stream(name, 2 * count)
    return [256 * b[2 * n] + b[2 * n + 1] for n in range(count)]


def blocks(n_experts: int, stack_layers: int) -> list[str]:
    stacks = [f"experts.{x}.layers.{n:02d}." for x in range(n_experts) for n in range(stack_layers)]
    return ["layers.00.", "layers.01.", *stacks]


def projections(n_experts: int, stack_layers: int) -> dict[str, tuple[int, int]]:
    d, q, kv = 8, 16, 8
    names = {"embedding.weight": (11, d), "lm_head.weight": (11, d)}
    routed = n_experts > 1 and not stack_layers
    experts = [f"ffn.experts.{x}." for x in range(n_experts)] if routed else ["ffn."]
    for layer in blocks(n_experts, stack_layers):
        names |= {f"{layer}attn.q_proj.weight": (q, d), f"{layer}attn.o_proj.weight": (d, q)}
        names |= {f"{layer}attn.{kind}_proj.weight": (kv, d) for kind in "kv"}
        for ffn in experts:
            names |= {f"{layer}{ffn}{kind}_proj.weight": (6, d) for kind in ("gate", "up")}
            names[f"{layer}{ffn}down_proj.weight"] = (d, 6)
    return names


def page_model(n_experts: int, stack_layers: int = 0) -> Tiny:
    records: dict[str, IntTensor] = {}
    exponents: dict[str, int] = {}

    def add(name: str, dims: tuple[int, ...], raw: list[int] | bytes) -> None:
        data = np.array([v % 256 for v in raw], np.uint8).view(np.int8).reshape(dims)
        records[name] = IntTensor(name=name, dims=dims, scale=1.0, data=data)

    for name, dims in projections(n_experts, stack_layers).items():
        add(name, dims, [b % 255 - 127 for b in stream(name, dims[0] * dims[1])])
        least, w = (6 if name == "embedding.weight" else 16), words(f"{name}.rows", 2 * dims[0])
        pairs = [(32768 + w[2 * n] % 32768, least + w[2 * n + 1] % 4) for n in range(dims[0])]
        add(f"{name}.rows", (dims[0], 4), b"".join(v.to_bytes(2, "big") for pair in pairs for v in pair))
        if name != "embedding.weight":
            exponents[name] = 34 if "o_proj" in name else 27
    kinds = ("attn", "ffn")
    norms = [f"{block}{kind}_norm.weight" for block in blocks(n_experts, stack_layers) for kind in kinds]
    for name in (*norms, "final_norm.weight"):
        add(f"{name}.gain", (8, 2), stream(f"{name}.gain", 16))
        exponents[name] = 13
    add("rope.cos_sin", (16, 2, 2, 2), rope(rope_frequencies(4, 10000.0), 16).astype(">i2").tobytes())
    if n_experts > 1:
        add("router.experts", (11, 1), [b % n_experts for b in stream("router.experts", 11)])
    stack = {"stack_layers": stack_layers, "stack_d_ffn": 6} if stack_layers else {}
    graph: dict[str, Any] = {
        "arithmetic": {"version": 1, "tables": law_digest()},
        "model": SIZES | {"n_experts": n_experts} | stack,
        "residual_exponent": 16,
        "norm_eps": 343597,
        "score_scale": {"m": 48022, "e": 30},
        "exponents": exponents,
    }
    return Tiny(records, graph)
