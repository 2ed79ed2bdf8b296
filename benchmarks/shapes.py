"""The shapes that every engine of a comparison runs, and their random weights.

NumPy only: the peers' environment imports this.

Llama-shaped: RMSNorm, rotary pairs (i, i + E/2), SwiGLU, no biases, the head tied to the embedding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One model. Every query head has its own key/value head of 64."""

    name: str
    d_model: int
    n_layers: int
    n_heads: int
    d_ffn: int
    vocab_size: int
    head_dim: int = 64
    context: int = 1024
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5


SHAPES = {
    shape.name: shape
    for shape in (
        Shape(name="8M", d_model=320, n_layers=8, n_heads=5, d_ffn=448, vocab_size=4096),
        Shape(name="34M", d_model=512, n_layers=10, n_heads=8, d_ffn=1280, vocab_size=8192),
        Shape(name="228M", d_model=1024, n_layers=16, n_heads=16, d_ffn=2752, vocab_size=24576),
    )
}


# That of recipes/s7/demo-1m.yaml, for those measurements that have a use for so small a model.
SMALLEST = Shape(name="1M", d_model=128, n_layers=4, n_heads=2, d_ffn=192, vocab_size=4096)


def random_weights(shape: Shape) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """(name, weight) of every tensor, by our names; the same for every engine."""
    rng = np.random.default_rng(1)
    d, q, f = shape.d_model, shape.n_heads * shape.head_dim, shape.d_ffn
    block = {
        "attn.q_proj": (q, d), "attn.k_proj": (q, d), "attn.v_proj": (q, d), "attn.o_proj": (d, q),
        "ffn.gate_proj": (f, d), "ffn.up_proj": (f, d), "ffn.down_proj": (d, f),
    }  # fmt: skip

    def normal(rows: int, columns: int) -> NDArray[np.float32]:
        return rng.standard_normal((rows, columns), np.float32) * np.float32(0.05)

    yield "embedding.weight", normal(shape.vocab_size, d)
    for layer in range(shape.n_layers):
        for name, (rows, columns) in block.items():
            yield f"layers.{layer:02d}.{name}.weight", normal(rows, columns)
        for name in ("attn_norm", "ffn_norm"):
            yield f"layers.{layer:02d}.{name}.weight", np.ones(d, np.float32)
    yield "final_norm.weight", np.ones(d, np.float32)


def prompt(shape: Shape, length: int, seed: int) -> list[int]:
    """Ids of a prompt; the first two are left to peers that need special ones."""
    return np.random.default_rng(seed).integers(2, shape.vocab_size, length).tolist()
