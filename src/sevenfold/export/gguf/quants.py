"""List the tensor types of a GGUF file in a table, and pack those that the `gguf` library lacks.

The library writes F32, F16, BF16, Q8_0 and the ternary TQ types. The quantiser of llama.cpp in the
interop environment writes the K and IQ types. This module writes I2_S, which specs/export.md,
section 5, defines to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import gguf
import numpy as np

from sevenfold.core.errors import UsageError
from sevenfold.export.store import Bytes, Floats

Maker = Literal["library", "llama.cpp", "sevenfold"]
I2_S = 36
I2_S_BLOCK = 128
# The bound of the definition below which a weight is zero.
_KEPT = 1e-6


@dataclass(frozen=True, kw_only=True)
class Quant:
    """One type. Rows whose width is not a multiple of `block` have the type `fallback`. The
    embedding, which is the head, has the type `head`.
    """

    name: str
    type_id: int
    # The value of general.file_type, which only people read.
    file_type: int
    block: int
    # The values and bytes of a block.
    n_bytes: int
    maker: Maker
    fallback: str = "f16"
    head: str = ""


def _quant(
    name: str, file_type: int, maker: Maker = "library", head: str = "", fallback: str = "f16"
) -> Quant:
    kind = gguf.GGMLQuantizationType[name.upper()]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    return Quant(
        name=name,
        type_id=int(kind),
        file_type=file_type,
        block=block,
        n_bytes=size,
        maker=maker,
        fallback=fallback,
        head=head,
    )


QUANTS: dict[str, Quant] = {
    quant.name: quant
    for quant in (
        _quant("f32", 0),
        _quant("f16", 1),
        _quant("bf16", 32),
        _quant("q8_0", 7),
        _quant("q4_0", 2, head="q8_0"),
        _quant("q5_0", 8, head="q8_0"),
        _quant("q5_1", 9, head="q8_0"),
        _quant("q2_k", 10, "llama.cpp", head="q6_k", fallback="q4_0"),
        _quant("q3_k", 11, "llama.cpp", head="q6_k", fallback="q4_0"),
        _quant("q4_k", 14, "llama.cpp", head="q6_k", fallback="q5_0"),
        _quant("q5_k", 16, "llama.cpp", head="q6_k", fallback="q5_1"),
        _quant("q6_k", 18, "llama.cpp", fallback="q8_0"),
        _quant("iq4_nl", 25, "llama.cpp", head="q6_k"),
        _quant("iq4_xs", 30, "llama.cpp", "q6_k", "iq4_nl"),
        _quant("iq3_s", 26, "llama.cpp", "q6_k", "iq4_nl"),
        _quant("iq3_xxs", 23, "llama.cpp", "q6_k", "iq4_nl"),
        _quant("iq2_s", 28, "llama.cpp", "q6_k", "iq4_nl"),
        _quant("iq2_xs", 20, "llama.cpp", "q6_k", "iq4_nl"),
        _quant("iq2_xxs", 19, "llama.cpp", "q6_k", "iq4_nl"),
        _quant("iq1_m", 31, "llama.cpp", "q6_k", "iq4_nl"),
        _quant("iq1_s", 24, "llama.cpp", "q6_k", "iq4_nl"),
        _quant("tq1_0", 36, head="q8_0", fallback="q4_0"),
        _quant("tq2_0", 37, head="q8_0", fallback="q4_0"),
        Quant(
            name="i2_s",
            type_id=I2_S,
            file_type=40,
            block=I2_S_BLOCK,
            n_bytes=32,
            maker="sevenfold",
            head="f16",
        ),
    )
}


def find_quant(name: str) -> Quant:
    """Return the type of that name. Raises UsageError."""
    if name not in QUANTS:
        raise UsageError(f"no type {name!r}", where="--quant", remedy=f"types are {', '.join(QUANTS)}")
    return QUANTS[name]


def type_for(quant: Quant, shape: tuple[int, ...], *, is_head: bool) -> Quant:
    """Return the stored type of a tensor: F32 for gains, `head` for the head, `fallback` when rows
    are not whole blocks.
    """
    if len(shape) == 1:
        return QUANTS["f32"]
    if is_head and quant.head:
        quant = QUANTS[quant.head]
    while shape[1] % quant.block:
        quant = QUANTS[quant.fallback]
    return quant


def stored_bytes(quant: Quant, shape: tuple[int, ...]) -> int:
    """Return the size of a tensor of this type in the file, in bytes."""
    size = int(np.prod(shape)) // quant.block * quant.n_bytes
    return size + (32 if quant.type_id == I2_S else 0)


def pack_i2_s(weight: Floats) -> Bytes:
    """Return I2_S of a matrix whose width is a multiple of 128: codes, the scale as float32, zeros
    up to 32 bytes.

    The weights are first made ternary by their sign and m, the mean of |w| (arXiv 2402.17764): t =
    clip(round(w / m), -1, 1). A ternary matrix {-s, 0, s} keeps exactly its values.
    """
    magnitude = np.abs(weight.astype(np.float64))
    scale = float(np.max(magnitude))
    ternary = bool(np.all((magnitude < _KEPT) | (magnitude == scale)))
    if not ternary:
        scale = float(np.mean(magnitude))
    is_zero = magnitude < _KEPT if ternary else (magnitude < _KEPT) | (magnitude <= scale / 2)
    codes = np.where(is_zero, 1, np.where(weight > 0, 2, 0)).astype(np.uint8)
    group = codes.reshape(-1, 4, 32)
    packed = group[:, 0] << 6 | group[:, 1] << 4 | group[:, 2] << 2 | group[:, 3]
    tail = np.zeros(32, np.uint8)
    tail[:4] = np.array([scale], "<f4").view(np.uint8)
    return np.concatenate([packed.reshape(-1), tail])


def unpack_i2_s(data: Bytes, shape: tuple[int, ...]) -> Floats:
    """Return the float32 values of I2_S, with shape `shape`."""
    n = int(np.prod(shape))
    blocks = data[: n // 4].reshape(-1, 1, 32)
    shifts = np.array([6, 4, 2, 0], np.uint8)[None, :, None]
    codes = (blocks >> shifts & 3).astype(np.float32).reshape(shape)
    return np.asarray((codes - 1) * data[n // 4 : n // 4 + 4].view("<f4")[0], np.float32)


Quantizer = Callable[[int, Floats, "Floats | None"], Bytes]


def pack(quant: Quant, values: Floats, importance: Floats | None, llama: Quantizer | None) -> Bytes:
    """Return the bytes of a tensor in its type. Raises UsageError for a type that needs llama.cpp
    when `llama` is None.
    """
    if quant.maker == "sevenfold":
        return pack_i2_s(values)
    if quant.maker == "llama.cpp":
        if llama is None:
            raise UsageError(
                f"type {quant.name} needs the quantiser of llama.cpp, which is missing",
                where="--quant",
                remedy="run `make interop`, or choose f32, f16, bf16, q8_0, tq1_0, tq2_0 or i2_s",
            )
        return llama(quant.type_id, values, importance)
    kind = gguf.GGMLQuantizationType(quant.type_id)
    if kind == gguf.GGMLQuantizationType.F32:
        return np.ascontiguousarray(values, "<f4").view(np.uint8).reshape(-1)
    return np.ascontiguousarray(gguf.quantize(values, kind)).view(np.uint8).reshape(-1)
