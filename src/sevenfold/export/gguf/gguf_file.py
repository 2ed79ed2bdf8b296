"""Write and read GGUF files of architecture `llama`, one tensor at a time (the `gguf` library).

Memory: the largest tensor and its packed form. The keys are in specs/export.md, section 4. The two
    elements of a rotated pair of q or k are adjacent, because `llama` rotates neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import cast

import gguf
import numpy as np

from sevenfold.core.errors import StorageError, UsageError, storage
from sevenfold.core.files import atomic_writer
from sevenfold.core.hashing import Json, canonical_json
from sevenfold.core.numbers.tables import rope_base
from sevenfold.export.gguf import rope_factors, vocabulary
from sevenfold.export.gguf.quants import (
    I2_S,
    QUANTS,
    Quant,
    Quantizer,
    pack,
    stored_bytes,
    type_for,
    unpack_i2_s,
)
from sevenfold.export.names import deinterleave, foreign_names, n_rotated, reader
from sevenfold.export.source import KEY, ExportSource
from sevenfold.export.store import Floats, narrow
from sevenfold.recipe.schema import ModelSpec
from sevenfold.recipe.sizing import tensors

BY_ID = {quant.type_id: quant for quant in QUANTS.values()}
_PLAIN = {gguf.GGMLQuantizationType.F32: "<f4", gguf.GGMLQuantizationType.F16: "<f2"}
PROVENANCE, ROOT, MODEL = f"{KEY}.provenance", f"{KEY}.root", f"{KEY}.model"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The type of each tensor by our names, and the number of tensors that are not stored in the
    requested type.
    """

    types: dict[str, Quant]
    n_fallback: int


def layout(source: ExportSource, quant: Quant) -> Layout:
    """Return the type of each tensor."""
    heads = ("embedding.weight", "lm_head.weight")
    types = {
        name: type_for(quant, shape, is_head=name in heads) for name, shape in tensors(source.spec).items()
    }
    plain = {
        name: (QUANTS[quant.head] if name in heads and quant.head else quant)
        for name, shape in tensors(source.spec).items()
        if len(shape) > 1
    }
    return Layout(types=types, n_fallback=sum(types[name] is not asked for name, asked in plain.items()))


def check_text(source: ExportSource, *, ids_only: bool) -> None:
    """Refuse a vocabulary whose text llama.cpp would split differently, unless the caller asks only
    for ids. Raises UsageError.
    """
    pieces = vocabulary.pieces_of(source.tokenizer)
    strays = vocabulary.stray_tokens(source.tokenizer)
    if not ids_only and (pieces != "llama3" or strays):
        reason = (
            f"cuts text by `{pieces}` pieces"
            if pieces != "llama3"
            else f"has {len(strays)} unreachable tokens"
        )
        raise UsageError(
            f"its tokenizer {reason}, and no pre-tokenizer that llama.cpp knows gives the same ids",
            where=str(source.path),
            remedy="--ids-only writes it for callers that encode text; --to hf keeps the tokenizer exactly; "
            "a recipe with tokenizer.pieces: llama3 exports whole",
        )


def write_gguf(
    source: ExportSource,
    out: Path,
    quant: Quant,
    llama: Quantizer | None = None,
    importance: dict[str, Floats] | None = None,
) -> Layout:
    """Write one file completely or not at all.

    Args:
        llama: the quantiser of llama.cpp, which only some types need.
        importance: the mean squared input of each column, by our names. The types of llama.cpp
            weigh their errors with it.

    Raises:
        StorageError: the disk is full, or a weight is beyond the range of F16.
        UsageError: the type needs llama.cpp, which is missing.
    """
    spec, plan = source.spec, layout(source, quant)
    makers = {kind.maker for kind in plan.types.values()}
    if "llama.cpp" in makers and llama is None:
        pack(
            next(kind for kind in plan.types.values() if kind.maker == "llama.cpp"),
            np.zeros(1, np.float32),
            None,
            None,
        )
    names = foreign_names(spec, "gguf")
    read = reader(source.read, spec)
    with atomic_writer(out) as file:
        writer = gguf.GGUFWriter(None, "llama")
        _add_keys(writer, source, quant)
        for name, shape in tensors(spec).items():
            kind = plan.types[name]
            # With this dtype the library does not compute the shape from the bytes.
            writer.add_tensor_info(
                names[name], shape, np.dtype(np.float32), stored_bytes(kind, shape), raw_dtype=_raw(kind)
            )
        factors = rope_factors.divisors(spec) if spec.rope_scaling.kind == "llama3" else None
        if factors is not None:
            writer.add_tensor_info(rope_factors.NAME, factors.shape, factors.dtype, factors.nbytes)
        # The library would open the file by path. We open it, so that it appears complete or not at
        # all.
        writer.fout, writer.state = [cast(BufferedWriter, file)], gguf.gguf_writer.WriterState.EMPTY
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.write_padding(file, file.tell())
        for name, shape in tensors(spec).items():
            data = _stored(plan.types[name], read(name), (importance or {}).get(name), llama, names[name])
            if data.nbytes != stored_bytes(plan.types[name], shape):
                raise StorageError(f"tensor {names[name]!r} packs to {data.nbytes} bytes", where=str(out))
            file.write(data.data)
            writer.write_padding(file, data.nbytes)
        if factors is not None:
            file.write(factors.astype("<f4").data)
            writer.write_padding(file, factors.nbytes)
    return plan


def _stored(
    kind: Quant, values: Floats, importance: Floats | None, llama: Quantizer | None, where: str
) -> np.ndarray:
    if kind.name in ("f16", "bf16"):
        return np.ascontiguousarray(narrow(values, kind.name.upper(), where)).view(np.uint8).reshape(-1)
    return pack(kind, values, importance, llama)


def _raw(kind: Quant) -> gguf.GGMLQuantizationType:
    if kind.maker != "sevenfold":
        return gguf.GGMLQuantizationType(kind.type_id)
    # The table of the library has no I2_S. The header needs only its number.
    return cast(gguf.GGMLQuantizationType, kind.type_id)


def _add_keys(writer: gguf.GGUFWriter, source: ExportSource, quant: Quant) -> None:
    spec, provenance = source.spec, source.provenance
    writer.add_name(source.name)
    writer.add_file_type(quant.file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(spec.context)
    writer.add_embedding_length(spec.d_model)
    writer.add_block_count(spec.n_layers)
    writer.add_feed_forward_length(spec.d_ffn)
    writer.add_head_count(spec.n_heads)
    writer.add_head_count_kv(spec.n_kv_heads)
    writer.add_key_length(spec.head_dim)
    writer.add_value_length(spec.head_dim)
    writer.add_layer_norm_rms_eps(spec.norm_eps)
    writer.add_vocab_size(spec.vocab_size)
    writer.add_rope_dimension_count(spec.head_dim)
    scaling = spec.rope_scaling
    # A llama3 scaling is stored in its own tensor.
    plain = "none" if scaling.kind == "llama3" else scaling.kind
    writer.add_rope_freq_base(rope_base(spec.head_dim, spec.rope_theta, plain, scaling.factor))
    if scaling.kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling.factor)
    vocabulary.add_to(writer, source.tokenizer, source.vocabulary().roles)
    if provenance.get("root"):
        writer.add_string(ROOT, str(provenance["root"]))
    writer.add_string(MODEL, canonical_json(spec.model_dump(mode="json")).decode())
    writer.add_string(PROVENANCE, canonical_json(provenance).decode())


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """The location of a tensor in a GGUF file: type number, shape (rows first), first byte."""

    type_id: int
    shape: tuple[int, ...]
    offset: int

    @property
    def n_bytes(self) -> int:
        """Return its size in bytes. Raises KeyError for a type that is not in our table."""
        return stored_bytes(BY_ID[self.type_id], self.shape)


class _Header(gguf.GGUFReader):
    """The header reader of the library, changed to read no tensors and to accept any type number."""

    def _build_tensors(self, start_offs: int, fields: list[gguf.ReaderField]) -> None:
        self.places: dict[str, StoredTensor] = {}
        self.twice: list[str] = []
        self.start = int(start_offs)
        for entry in fields:
            _, raw, _, dims, type_id, offset = entry.parts
            name = bytes(raw).decode()
            if name in self.places:
                self.twice.append(name)
            self.places[name] = StoredTensor(
                type_id=int(type_id[0]),
                shape=tuple(int(n) for n in reversed(dims)),
                offset=int(start_offs + offset[0]),
            )


def read_header(path: Path) -> tuple[dict[str, Json], dict[str, StoredTensor]]:
    """Return the keys as plain values, and the location of each tensor. All tensors are inside the
    file and have a type of our table.

    Raises:
        StorageError: it is not a GGUF file, it is truncated, or it has a type that is not read here.
    """
    with storage(path), path.open("rb") as file:
        size, magic, version = path.stat().st_size, file.read(4), file.read(4)
    if magic != b"GGUF":
        raise StorageError("not a GGUF file", where=str(path), remedy="check the path")
    if len(version) == 4 and version[:2] == b"\0\0":
        raise StorageError(
            "a big-endian GGUF file; this version reads little-endian ones",
            where=str(path),
            remedy="convert it (gguf-convert-endian FILE little), and import the result",
        )
    try:
        header = _Header(path)
        keys = {n: field.contents() for n, field in header.fields.items() if not n.startswith("GGUF.")}
    except Exception as error:
        raise _refusal(path, f"its header is cut or damaged ({type(error).__name__})") from error
    _check_places(path, header, size)
    return keys, header.places


def _check_places(path: Path, header: _Header, size: int) -> None:
    """Check that each tensor appears once, has a known type, is inside the file, is aligned, and
    follows the one before it. Raises StorageError.
    """
    if header.twice:
        raise _refusal(path, f"tensor {header.twice[0]} appears twice")
    end = header.start
    for name, place in sorted(header.places.items(), key=lambda item: item[1].offset):
        if place.type_id not in BY_ID:
            raise _refusal(path, f"tensor {name} has type {place.type_id}, which is not known here")
        if (
            not place.shape
            or place.shape[-1] % BY_ID[place.type_id].block
            or place.offset + place.n_bytes > size
        ):
            raise _refusal(
                path, f"tensor {name}, {place.shape} at byte {place.offset}, is not inside its {size}"
            )
        if (place.offset - header.start) % header.alignment:
            raise _refusal(
                path, f"tensor {name} is at byte {place.offset}, not aligned to {header.alignment}"
            )
        if place.offset < end:
            raise _refusal(path, f"tensor {name} at byte {place.offset} overlaps what ends at {end}")
        end = place.offset + place.n_bytes


def _refusal(path: Path, what: str) -> StorageError:
    return StorageError(
        f"not a GGUF file that this version reads: {what}",
        where=str(path),
        remedy="get the file again, or export it as f32, f16 or bf16",
    )


def read_stored(path: Path, name: str, place: StoredTensor) -> Floats:
    """Return the float32 values of a stored tensor. It is read and not mapped, because mapped pages
    count as memory. Raises StorageError.
    """
    with storage(path), path.open("rb") as file:
        file.seek(place.offset)
        raw = np.fromfile(file, np.uint8, place.n_bytes)
    if raw.size != place.n_bytes:
        raise StorageError(f"tensor {name!r} is cut", where=str(path), remedy="get the file again")
    if place.type_id == I2_S:
        return unpack_i2_s(raw, place.shape)
    kind = gguf.GGMLQuantizationType(place.type_id)
    if kind in _PLAIN:
        return raw.view(_PLAIN[kind]).astype(np.float32, copy=False).reshape(place.shape)
    rows = raw.reshape(*place.shape[:-1], -1)
    return np.asarray(gguf.dequantize(rows, kind), np.float32).reshape(place.shape)


def stored_reader(path: Path, spec: ModelSpec) -> Callable[[str], Floats]:
    """Return a reader from our name to the floats of a file in our row order, one tensor at a time.
    Raises StorageError.
    """
    names, (_, places) = foreign_names(spec, "gguf"), read_header(path)

    def read(name: str) -> Floats:
        place = places.get(names[name])
        if place is None or place.shape != tensors(spec)[name]:
            raise StorageError(f"tensor {names[name]!r} is {place and place.shape}", where=str(path))
        values, heads = read_stored(path, names[name], place), n_rotated(name, spec)
        return deinterleave(values, heads) if heads else values

    return read
