"""Case files: a model, ids, and what the reference makes of them, as bytes that a program on
another machine reads (case.h).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from tiny_models import ids, tiny

from sevenfold.core.numbers import fixed
from sevenfold.engine import native_ffi as abi
from sevenfold.engine import reference
from sevenfold.engine.ops import Norm, QuantizedLinear
from sevenfold.engine.weights import IntegerModel

Part = tuple[object, str]
TABLES = {"exp2": 0, "sigmoid": 65, "rsqrt": 65 + 513}  # where each begins in the second array
CASES: dict[str, tuple[str, dict[str, int], int]] = {  # shape, changes of it, tokens
    "dense": ("dense", {}, 20),
    "gqa_odd": ("gqa", {"d_model": 67, "d_ffn": 131, "vocab_size": 337, "head_dim": 18}, 22),
    "moe": ("moe", {}, 21),
    "one": ("one", {}, 12),
    "stacks": ("stacks", {}, 20),
    "gqa_odd_pages": ("gqa", {"context": 90, "d_model": 67, "d_ffn": 131, "vocab_size": 337, "head_dim": 18},
        80),
    "moe_pages": ("moe", {"context": 140, "d_model": 64, "d_ffn": 128, "vocab_size": 64, "head_dim": 16},
        131),
    "past_a_panel": ("dense", {"context": 70, "d_model": 17, "d_ffn": 33, "vocab_size": 65, "head_dim": 34},
        66),
}  # fmt: skip
SHORT = ("dense", "gqa_odd", "moe", "one", "stacks")


def linear(codes_OI: object, m: object, s: object, exponent: int) -> Iterator[Part]:
    yield from ((codes_OI, "<i1"), (m, "<u2"), (s, "<u2"), ([*np.shape(codes_OI), exponent], "<i4"))


def projection(w: QuantizedLinear) -> Iterator[Part]:
    return linear(w.codes_OI, w.row_m_O, w.row_s_O, w.exponent)


def norm(n: Norm) -> Iterator[Part]:
    yield from ((n.gain_D, "<i2"), ([n.eps, n.exponent], "<i8"))


def parts(model: IntegerModel) -> Iterator[Part]:
    """The arrays of a model in the order of case.h."""
    behind = [layer for stack in model.stacks for layer in stack]
    widths = {"d_ffn": model.layers[0], "stack_d_ffn": behind[0] if behind else None}
    sizes = {name: layer.experts[0].gate.row_m_O.size if layer else 0 for name, layer in widths.items()}
    yield [sizes[name] if name in sizes else getattr(model.shape, name) for name in abi.SHAPE_FIELDS], "<i4"
    yield np.concatenate([fixed.exp2_table(), fixed.sigmoid_table(), fixed.rsqrt_table()]), "<i4"
    yield from linear(model.embedding_VD, model.embedding_m_V, model.embedding_s_V, 0)
    yield from ((model.rope_CP2, "<i2"), (model.router_V, "<u1"))
    for layer in (*model.layers, *behind):
        yield from (*norm(layer.attn_norm), *norm(layer.ffn_norm))
        for w in (layer.q, layer.k, layer.v, layer.o):
            yield from projection(w)
        for expert in layer.experts:
            yield from (*projection(expert.gate), *projection(expert.up), *projection(expert.down))
    yield from (*norm(model.final_norm), *projection(model.head))


def results(model: IntegerModel, tokens: np.ndarray) -> Iterator[Part]:
    """Ids, logits of every row, and the cache of every layer after them."""
    cache = reference.Cache(model.shape)
    yield tokens, "<i4"
    yield reference.forward(model, tokens, cache), "<i4"
    for held in cache.layers:
        for codes, m, e in ((held.k, held.k_m, held.k_e), (held.v, held.v_m, held.v_e)):
            n = cache.length
            yield from ((codes[:n], "<i1"), (m[:n], "<i4"), (e[:n], "<i4"))


def pack(arrays: Iterator[Part], flip: tuple[str, int] | None = None) -> bytes:
    """Each array as a count of 4 bytes and its elements.

    `flip`: a table and the entry of it whose bit 12 is turned.
    """
    raw = []
    for index, (values, dtype) in enumerate(arrays):
        array = np.ascontiguousarray(values, np.int64)
        if flip and index == 1:
            array[TABLES[flip[0]] + flip[1]] ^= 4096
        raw += [array.size.to_bytes(4, "little"), array.astype(dtype).tobytes()]
    return b"".join(raw)


def case(name: str, flip: tuple[str, int] | None = None) -> bytes:
    """One of CASES."""
    shape, changes, n_tokens = CASES[name]
    built = tiny(shape, **changes)
    model = built.load()
    tokens = ids(n_tokens, model.shape.vocab_size)
    return pack(parts(model), flip) + pack(results(model, tokens))
