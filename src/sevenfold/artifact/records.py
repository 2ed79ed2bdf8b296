"""Pack and parse FIELD records: INT8 tensors, exact (A10) or padded to 32 bytes (B7).

Packing copies only the header of each record. Parsing copies nothing, because the arrays are
read-only views of the file. Cost: time O(records), memory O(records).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sevenfold.artifact import layout
from sevenfold.artifact.errors import (
    ContentsError,
    DimensionError,
    DuplicateTensorError,
    LimitError,
    PaddingError,
    RankError,
    TensorNameError,
    TruncatedRecordError,
)

# Printable ASCII without path separators. Such a name is safe to print, to sort and to use as a
# file name.
_NAME = re.compile(rb"[!-.0-\[\]-~]{1,%d}" % layout.MAX_NAME_BYTES)


@dataclass(frozen=True, eq=False)
class TensorRecord:
    """The description of one tensor in a FIELD record, without the data.

    Args:
        name: printable ASCII, 1 to 255 bytes, no slash or backslash.
        dims: 1 to 8 dimensions, each at least 1.
        scale: an f32; finite (rule V0).
        start: byte offset of the record in the file (0 when it is not from a file).
        offset: byte offset of its data.
    """

    name: str
    dims: tuple[int, ...]
    scale: float
    start: int = field(default=0, kw_only=True)
    offset: int = field(default=0, kw_only=True)

    @property
    def numel(self) -> int:
        """Return the product of the dimensions."""
        return math.prod(self.dims)

    @property
    def training(self) -> bool:
        """Return whether the record carries FP32 training weights."""
        return self.name.startswith(layout.TRAINING_PREFIX)


@dataclass(frozen=True, eq=False)
class Tensor(TensorRecord):
    """One tensor of INT8 codes. The value of a code c is c * scale.

    `data` is i8, shaped `dims` (or flat, for the writer). It is read-only when it comes from a
    file.
    """

    data: NDArray[np.int8]


def training_tensor(name: str, values: NDArray[np.float32]) -> Tensor:
    """Return FP32 training weights as an I8 tensor of their big-endian bytes, four for each value."""
    if values.dtype != np.float32:
        raise ContentsError(
            f"training weights of {values.dtype}, float32 was expected", where=f"tensor {name!r}"
        )
    raw = np.ascontiguousarray(values).view(np.uint32).astype(">u4").view(np.int8)
    return Tensor(layout.TRAINING_PREFIX + name, (*values.shape, 4), 1.0, raw.reshape(-1))


def training_values(tensor: Tensor) -> NDArray[np.float32]:
    """Return the inverse of `training_tensor`.

    Raises RankError for a record that carries no binary32.
    """
    if tensor.dims[-1] != 4:
        raise RankError(f"dims {tensor.dims} of {tensor.name!r} are not those of binary32 values")
    raw = np.ascontiguousarray(tensor.data).reshape(-1).view(">u4")
    return raw.astype(np.uint32).view(np.float32).reshape(tensor.dims[:-1])


def valid_name(raw: bytes) -> bool:
    """Return whether `raw` may be the name of a tensor."""
    return _NAME.fullmatch(raw) is not None and raw not in (b".", b"..")


def check_tensor(tensor: Tensor) -> None:
    """Refuse a tensor that no record can hold.

    Raises:
        ContentsError: a bad name, rank, dimension, dtype or scale, or data whose length is not
            product(dims).
    """
    where = f"tensor {tensor.name!r}"
    if not tensor.name.isascii() or not valid_name(tensor.name.encode()):
        raise ContentsError(
            "the name must be 1 to 255 printable ASCII characters without slashes", where=where
        )
    if not 1 <= len(tensor.dims) <= layout.MAX_RANK:
        raise ContentsError(f"rank {len(tensor.dims)}, allowed are 1 to {layout.MAX_RANK}", where=where)
    if not all(1 <= dim <= layout.MAX_LANE_BYTES for dim in tensor.dims):
        raise ContentsError(f"dims {tensor.dims} are not all between 1 and 2**32 - 1", where=where)
    if tensor.data.dtype != np.int8 or tensor.data.size != tensor.numel:
        raise ContentsError(
            f"{tensor.data.size} values of {tensor.data.dtype}, dims {tensor.dims} ask for {tensor.numel}"
            " of int8",
            where=where,
        )
    if not abs(tensor.scale) <= float(np.finfo(np.float32).max):
        raise ContentsError(f"scale {tensor.scale} is not a finite f32 (rule V0)", where=where)


def canonical_order(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors sorted by the bytes of their names (rule V0).

    Raises ContentsError for a name that occurs twice.
    """
    ordered = sorted(tensors, key=lambda tensor: tensor.name.encode())
    for left, right in pairwise(ordered):
        if left.name == right.name:
            raise ContentsError("the name is there twice", where=f"tensor {left.name!r}")
    return ordered


def record_chunks(tensor: Tensor, padded: bool) -> list[bytes | memoryview]:
    """Return one record as chunks to write in order. `tensor` has passed `check_tensor`."""
    name = tensor.name.encode()
    head = b"".join(
        (
            layout.NAME_LENGTH.pack(len(name)),
            name,
            layout.RANK.pack(len(tensor.dims)),
            *(layout.DIM.pack(dim) for dim in tensor.dims),
            layout.SCALE.pack(tensor.scale),
        )
    )
    data = np.ascontiguousarray(tensor.data).reshape(-1).view(np.uint8).data
    tail = bytes(layout.padded_bytes(tensor.numel, padded) - tensor.numel)
    return [head, data, tail] if tail else [head, data]


@dataclass
class _Cursor:
    """A position in one FIELD lane that never leaves the lane.

    Offsets count from the start of the file.
    """

    # The payload.
    view: memoryview
    # File offset of the payload.
    base: int
    where: str
    position: int = 0

    @property
    def place(self) -> str:
        return f"{self.where}, record at offset {self.start}"

    # File offset of the record being read.
    start: int = 0

    def take(self, n_bytes: int, what: str) -> memoryview:
        left = len(self.view) - self.position
        if n_bytes > left:
            raise TruncatedRecordError(
                f"{what} takes {n_bytes} bytes at offset {self.base + self.position}, {left} are left",
                where=self.place,
                remedy="get the file again from its source",
            )
        chunk = self.view[self.position : self.position + n_bytes]
        self.position += n_bytes
        return chunk


def parse_records(
    view: memoryview, base: int, where: str, *, padded: bool, records: dict[str, TensorRecord], limit: int
) -> None:
    """Read the records of one FIELD lane into `records`, in file order. Data is skipped.

    Args:
        view: the payload, read-only.
        base: offset of the payload in the file.
        where: the lane, for messages.
        padded: whether data is padded to 32 bytes.
        records: the records of earlier FIELD lanes; names are unique over all lanes.
        limit: how many records the file may hold.

    Raises:
        RecordError: a subclass for each cause.
        LimitError: there are too many records.
    """
    cursor = _Cursor(view, base, where)
    for record in _records(cursor, padded):
        if record.name in records:
            raise DuplicateTensorError(f"tensor {record.name!r} is there twice", where=cursor.place)
        if len(records) >= limit:
            raise LimitError(
                f"more than the {limit} tensors that a file of this size may hold", where=cursor.place
            )
        records[record.name] = record


def _records(cursor: _Cursor, padded: bool) -> Iterator[TensorRecord]:
    while cursor.position < len(cursor.view):
        cursor.start = cursor.base + cursor.position
        name = _name(cursor)
        dims = _dims(cursor, name)
        (scale,) = layout.SCALE.unpack(cursor.take(layout.SCALE.size, f"the scale of {name!r}"))
        # Python integers do not overflow, and `take` bounds the product by the file.
        numel = math.prod(dims)
        offset = cursor.base + cursor.position
        cursor.take(numel, f"the data of {name!r} (dims {dims})")
        padding = cursor.take(layout.padded_bytes(numel, padded) - numel, f"the padding of {name!r}")
        if any(padding):
            raise PaddingError(f"the padding of {name!r} is not all zero", where=cursor.place)
        yield TensorRecord(name, dims, scale, start=cursor.start, offset=offset)


def _name(cursor: _Cursor) -> str:
    (length,) = layout.NAME_LENGTH.unpack(cursor.take(layout.NAME_LENGTH.size, "a name's length"))
    if not 1 <= length <= layout.MAX_NAME_BYTES:
        raise TensorNameError(
            f"a name of {length} bytes, allowed are 1 to {layout.MAX_NAME_BYTES}", where=cursor.place
        )
    raw = bytes(cursor.take(length, "a name"))
    if not valid_name(raw):
        raise TensorNameError(
            f"the name {raw!r} holds a character that is not printable ASCII, or a path separator",
            where=cursor.place,
        )
    return raw.decode("ascii")


def _dims(cursor: _Cursor, name: str) -> tuple[int, ...]:
    (rank,) = layout.RANK.unpack(cursor.take(layout.RANK.size, f"the rank of {name!r}"))
    if not 1 <= rank <= layout.MAX_RANK:
        raise RankError(f"rank {rank} of {name!r}, allowed are 1 to {layout.MAX_RANK}", where=cursor.place)
    raw = cursor.take(rank * layout.DIM.size, f"the dims of {name!r}")
    dims = tuple(int(dim) for (dim,) in layout.DIM.iter_unpack(raw))
    if 0 in dims:
        raise DimensionError(f"dims {dims} of {name!r} hold a zero", where=cursor.place)
    return dims
