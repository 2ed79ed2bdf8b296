"""Read and write safetensors one tensor at a time, so that memory is that of the largest tensor.

The library maps a file or loads it completely, and mapped pages count as memory of the process. A
plain read avoids both. The reader is total (specs/export.md, section 2): it accepts a file in which
it can account for every byte, and names the fault of any other file.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.errors import StorageError, storage
from sevenfold.core.files import atomic_writer
from sevenfold.core.hashing import Json, canonical_json

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
# The limit of the format.
MAX_HEADER_BYTES = 100_000_000
ALIGNMENT = 8
# From the format's name of a type to its little-endian layout. BF16 is the upper half of an FP32.
TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
# The value sizes of all other types of the format. A file with one of them is valid, but that
# tensor is not read.
OTHERS = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "I16": 2, "U16": 2}
OTHERS |= {"I32": 4, "U32": 4, "F64": 8, "I64": 8, "U64": 8, "C64": 8}


@dataclass(frozen=True, kw_only=True)
class TensorLocation:
    """The location of a tensor: type, shape, and first byte in the file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class TensorFile:
    """An open safetensors file. Tensors are read on request."""

    path: Path
    places: Mapping[str, TensorLocation]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def read(self, name: str) -> Floats:
        """Return one tensor exactly as float32. Raises StorageError when there is no such tensor,
        or it cannot be read.
        """
        place = self.places.get(name)
        if place is None:
            raise StorageError(f"no tensor {name!r}", where=str(self.path))
        if place.dtype not in TYPES:
            raise StorageError(
                f"tensor {name!r} is {place.dtype}; {', '.join(TYPES)} are read", where=str(self.path)
            )
        with storage(self.path), self.path.open("rb") as file:
            file.seek(place.offset)
            raw = np.fromfile(file, TYPES[place.dtype], math.prod(place.shape))
        if raw.size != math.prod(place.shape):
            raise StorageError(f"tensor {name!r} is cut", where=str(self.path), remedy="get the file again")
        return widen(raw, place.dtype).reshape(place.shape)


def widen(raw: NDArray[np.generic], dtype: str) -> Floats:
    """Return stored values as float32, which is exact for every type in `TYPES`."""
    if dtype == "BF16":
        return (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return raw.astype(np.float32, copy=False)


def narrow(values: Floats, dtype: str, where: str) -> NDArray[np.generic]:
    """Return float32 values in a stored type, rounded to nearest even.

    Raises StorageError when a value leaves the range of F16.
    """
    if dtype == "F32":
        return values.astype("<f4", copy=False)
    if dtype == "BF16":
        bits = np.ascontiguousarray(values).view(np.uint32)
        return ((bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16).astype("<u2")
    with np.errstate(over="ignore"):
        half = values.astype("<f2")
    if not np.isfinite(half).all():
        raise StorageError("a weight is beyond the range of F16", where=where, remedy="export as bf16 or f32")
    return half


def _refusal(path: Path, what: str) -> StorageError:
    return StorageError(f"not a safetensors file: {what}", where=str(path), remedy="get the file again")


def open_tensors(path: Path) -> TensorFile:
    """Read the header and check that it accounts for every byte.

    Raises:
        StorageError: the file is missing, truncated or altered, or has a type that the format does
            not have.
    """
    with storage(path), path.open("rb") as file:
        size = path.stat().st_size
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise _refusal(path, f"{size} bytes with a header of {length}")
        raw = file.read(length)
    try:
        header = json.loads(raw)
        metadata = {str(k): str(v) for k, v in header.pop("__metadata__", {}).items()}
        places = {name: _named_place(name, entry, 8 + length) for name, entry in header.items()}
        spans = sorted((place.offset, place.offset + n_bytes(place)) for place in places.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _refusal(path, f"its header cannot be read ({type(error).__name__}: {error})") from error
    end = 8 + length
    for start, stop in spans:
        if start != end:
            raise _refusal(path, f"bytes {end} to {start} belong to no tensor, or to two")
        end = stop
    if end != size:
        raise _refusal(path, f"{size} bytes, its tensors end at {end}")
    return TensorFile(path=path, places=places, metadata=metadata)


def n_bytes(place: TensorLocation) -> int:
    """Return the size of a tensor in the file, in bytes."""
    return math.prod(place.shape) * (OTHERS.get(place.dtype) or np.dtype(TYPES[place.dtype]).itemsize)


def _named_place(name: str, entry: Json, start: int) -> TensorLocation:
    try:
        return _place(entry, start)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"tensor {name!r}: {type(error).__name__}: {error}") from error


def _place(entry: Json, start: int) -> TensorLocation:
    dtype, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if dtype not in TYPES and dtype not in OTHERS:
        raise ValueError(f"type {dtype!r} is none of the format")
    if not all(isinstance(n, int) and 0 < n < 1 << 40 for n in shape) or not isinstance(first, int):
        raise ValueError(f"shape {shape} or offset {first!r}")
    place = TensorLocation(dtype=dtype, shape=shape, offset=start + first)
    if first < 0 or last - first != n_bytes(place):
        raise ValueError(f"offsets {first} to {last} do not fit {dtype} {shape}")
    return place


def write_tensors(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], Floats],
    dtype: str,
    metadata: Mapping[str, str],
) -> None:
    """Write tensors in name order. Each is read, narrowed and written before the next is read.

    Raises:
        StorageError: the disk is full, or a weight does not fit the type. No file is left.
    """
    width = np.dtype(TYPES[dtype]).itemsize
    header: dict[str, Json] = {"__metadata__": dict(metadata)}
    names, end = sorted(shapes), 0
    for name in names:
        start, end = end, end + math.prod(shapes[name]) * width
        header[name] = {"dtype": dtype, "shape": list(shapes[name]), "data_offsets": [start, end]}
    text = canonical_json(header)
    text += b" " * (-len(text) % ALIGNMENT)
    write_stream(path, [struct.pack("<Q", len(text)) + text], (narrow(read(n), dtype, n) for n in names))


def write_stream(path: Path, head: list[bytes], arrays: Iterable[NDArray[np.generic]]) -> None:
    """Write a file of a header and arrays completely or not at all. Raises StorageError."""
    with atomic_writer(path) as file:
        for part in head:
            file.write(part)
        for array in arrays:
            file.write(np.ascontiguousarray(array).data)
