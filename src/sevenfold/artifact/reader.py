"""The total reader of `.s7l` files: any bytes give an `Artifact` or an `ArtifactError`.

`open_artifact` maps the file and proves everything except the FIELD payloads: header, frames, root
(from the stored digests), seal and JSON. `Artifact.prove` hashes the FIELD payloads. `tensors`
calls it first, so no unproved byte reaches an engine. `read_artifact` does both. Every size is
checked against the file and the caps before it is used. Cost: opening reads no weights. Proving is
one pass of SHA-256. Tensor data is not copied, because arrays are views of a read-only memory map.
"""

from __future__ import annotations

import mmap
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from sevenfold.artifact import layout
from sevenfold.artifact.binding import check_binding
from sevenfold.artifact.errors import (
    DuplicateLaneError,
    MissingTensorError,
    RootError,
    SealError,
    TruncatedError,
)
from sevenfold.artifact.frames import AGAIN, Header, Lane, check_digest, parse_header, parse_lane_head
from sevenfold.artifact.json_lane import JsonBudget, kind_of, parse_json, shown
from sevenfold.artifact.records import Tensor, TensorRecord, parse_records
from sevenfold.artifact.seal import Seal
from sevenfold.core.errors import ArtifactError, StorageError, storage
from sevenfold.core.hashing import Json, sha256
from sevenfold.core.shipped_models import model_path


@dataclass(frozen=True, eq=False)
class Artifact:
    """A file whose structure, root and JSON are right.

    `verify` checks what the contents mean. `json` holds the JSON payloads by kind, and `seal` the
    seal. A file of the published contract (version 1 or 2) has neither. Its payloads are opaque
    bytes (see `payload`), and its root does not bind what `binding.NOT_BOUND` names.
    """

    path: Path
    header: Header
    n_bytes: int
    lanes: tuple[Lane, ...]
    json: Mapping[str, dict[str, Json]]
    seal: Seal | None
    _buffer: memoryview = field(repr=False)
    _mapped: mmap.mmap | None = field(default=None, repr=False)

    @property
    def version(self) -> int:
        """Return the format version."""
        return self.header.version

    @property
    def class_(self) -> int:
        """Return the model class (layout.ModelClass)."""
        return self.header.class_

    @property
    def flags(self) -> int:
        """Return the header flags (layout.Flag)."""
        return self.header.flags

    @property
    def root(self) -> str:
        """Return the root, as hex."""
        return self.header.root.hex()

    @property
    def contents_id(self) -> tuple[bytes, tuple[tuple[int, int, str], ...]]:
        """Return a digest that is equal exactly for files with the same bytes.

        It covers the header, and of each lane the id, length and digest. The root alone identifies
        the bytes only for a file with a seal.
        """
        lanes = tuple((lane.id, lane.n_bytes, lane.sha256) for lane in self.lanes)
        return bytes(self._buffer[: layout.HEADER_BYTES]), lanes

    @property
    def header_head(self) -> bytes:
        """Return the 8 header bytes before the root."""
        return bytes(self._buffer[: layout.ROOT_OFFSET])

    @property
    def graph(self) -> dict[str, Json]:
        """Return EDGE graph: the architecture and its operations ({} when the file has none)."""
        return self.json.get("graph", {})

    @property
    def control(self) -> dict[str, Json]:
        """Return EDGE control: bindings and control records ({} when the file has none)."""
        return self.json.get("control", {})

    @property
    def provenance(self) -> dict[str, Json]:
        """Return EDGE provenance: identity, hashes, golden logits ({} when the file has none)."""
        return self.json.get("provenance", {})

    @property
    def trace(self) -> dict[str, Json]:
        """Return LANE: the training trace ({} when the file has none)."""
        return self.json.get(layout.TRACE_KIND, {})

    @property
    def batch(self) -> dict[str, Json]:
        """Return BATCH: the gradient trace ({} when the file has none)."""
        return self.json.get(layout.BATCH_KIND, {})

    @property
    def padded(self) -> bool:
        """Return whether FIELD data is padded to 32 bytes."""
        return self.header.padded

    @property
    def header_only(self) -> bool:
        """Return whether the file has no lanes (40 bytes). Such a model consists of zeros (A11)."""
        return not self.lanes

    @property
    def anonymous(self) -> bool:
        """Return whether the file does not name its origin (D6)."""
        return not self.provenance

    @cached_property
    def dictionary(self) -> bytes:
        """Return the DICT payload (b"" when the file has none)."""
        return b"".join(bytes(self.payload(lane)) for lane in self.lanes if lane.id == layout.LaneId.DICT)

    @property
    def published(self) -> bool:
        """Return whether the file follows the published contract and therefore has no seal."""
        return self.header.published

    @property
    def sealed_lanes(self) -> tuple[Lane, ...]:
        """Return the lanes that the seal lists, which are all but its own."""
        return tuple(lane for lane in self.lanes if lane.kind != layout.SEAL_KIND)

    @cached_property
    def records(self) -> Mapping[str, TensorRecord]:
        """Return names, shapes and positions of the tensors in file order, without reading their
        data.

        Raises:
            ArtifactError: a record is malformed, or a required tensor is missing.
        """
        records: dict[str, TensorRecord] = {}
        fields = [lane for lane in self.lanes if lane.id == layout.LaneId.FIELD]
        for lane in fields:
            parse_records(
                self.payload(lane),
                lane.payload_offset,
                lane.where,
                padded=self.padded,
                records=records,
                limit=layout.max_tensors(self.n_bytes),
            )
        missing = [name for name in layout.REQUIRED_TENSORS if name not in records]
        if fields and missing:
            raise MissingTensorError(f"no tensor {missing[0]!r}", where=fields[-1].where)
        return MappingProxyType(records)

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """Return the proved tensors in file order, as read-only views of the file. Raises what
        `prove` raises.
        """
        self.prove()
        return MappingProxyType({name: self._tensor(record) for name, record in self.records.items()})

    def _tensor(self, record: TensorRecord) -> Tensor:
        raw = self._buffer[record.offset : record.offset + record.numel]
        data = np.frombuffer(raw, dtype=np.int8).reshape(record.dims)
        return Tensor(record.name, record.dims, record.scale, data, start=record.start, offset=record.offset)

    def prove(self) -> Artifact:
        """Hash the FIELD payloads and read their records, once. Return the artifact.

        Raises:
            ArtifactError: a subclass per cause, naming the lane and the offset.
        """
        return self._proved

    @cached_property
    def _proved(self) -> Artifact:
        with _named(self.path):
            _prove_fields(self._buffer, self.lanes)
            _ = self.records
        return self

    def payload(self, lane: Lane) -> memoryview:
        """Return the bytes of a lane, without a copy. A FIELD payload may still be unproved."""
        return self._buffer[lane.payload_offset : lane.payload_offset + lane.n_bytes]

    def raw(self, start: int, end: int) -> memoryview:
        """Return the bytes of the file, without a copy."""
        return self._buffer[start:end]

    def release(self) -> None:
        """Return the pages of the file to the system. A later access reads them again."""
        if self._mapped is not None:
            self._mapped.madvise(mmap.MADV_DONTNEED)


def open_artifact(path: Path | str) -> Artifact:
    """Map a file, or the model that ships under a name, and prove all of it but the FIELD payloads.

    Raises:
        ArtifactError: a subclass for each cause, naming the lane and the offset.
        StorageError: the path is missing, unreadable, or not a regular file.
    """
    path = model_path(path)
    with storage(path):
        # This stands before open(), because opening a FIFO would wait for a writer.
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "it is a directory" if stat.S_ISDIR(mode) else "it is not a regular file"
            raise StorageError(f"{kind}, an artifact was expected", where=str(path), remedy="name a file")
        with path.open("rb") as file:
            size = file.seek(0, 2)
            # An empty file cannot be mapped; the parser refuses it as truncated.
            try:
                mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""
            except ValueError as error:
                raise StorageError(f"it cannot be mapped: {error}", where=str(path)) from error
    with _named(path):
        return _parse(mapped, path)


def read_artifact(path: Path | str) -> Artifact:
    """Map a file and prove all of it. Raises what `open_artifact` and `Artifact.prove` raise."""
    return open_artifact(path).prove()


def parse_artifact(buffer: bytes, path: Path | str = Path("memory")) -> Artifact:
    """Read and prove an artifact from bytes that must not change.

    `path` is stored and not read. Raises ArtifactError.
    """
    return _parse(buffer, Path(path)).prove()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Add the name of the file to an error that leaves the block."""
    try:
        yield
    except ArtifactError as error:
        error.where = f"{path}: {error.where}" if error.where else str(path)
        raise


def _parse(buffer: bytes | mmap.mmap, path: Path) -> Artifact:
    view = memoryview(buffer).toreadonly()
    header = parse_header(bytes(view[: layout.HEADER_BYTES]))
    lanes = _lanes(view)
    try:
        seals, seal = check_binding(view, header, lanes)
    except RootError:
        # A changed payload is the cause, so it is named and not the error that it led to.
        _prove_fields(view, lanes)
        raise
    _refuse_twins(lanes, header)
    values: dict[str, dict[str, Json]] = {}
    if not header.published:
        lanes, values = _json_values(view, lanes, seals)
    if seal is not None:
        _check_kinds(lanes, seal)
    mapped = None if isinstance(buffer, bytes) else buffer
    return Artifact(path, header, len(view), lanes, MappingProxyType(values), seal, view, mapped)


def _check_kinds(lanes: Sequence[Lane], seal: Seal) -> None:
    """Refuse a seal that lists another kind for a lane than its payload states. Raises SealError."""
    others = [lane for lane in lanes if lane.kind != layout.SEAL_KIND]
    for lane, listed in zip(others, seal.lanes, strict=True):
        if listed.kind != lane.kind:
            raise SealError(
                f"the seal calls the lane {shown(repr(listed.kind))}, its payload {shown(repr(lane.kind))}",
                where=lane.where,
                remedy=AGAIN,
            )


def _payload(view: memoryview, lane: Lane) -> memoryview:
    return view[lane.payload_offset : lane.payload_offset + lane.n_bytes]


def _lanes(view: memoryview) -> tuple[Lane, ...]:
    """Return the frames of all lanes, which must fill the file to the last byte.

    All digests are checked except those of FIELD (see `prove`).
    """
    lanes: list[Lane] = []
    offset = layout.HEADER_BYTES
    try:
        while offset < len(view):
            lanes.append(_lane(view, len(lanes), offset))
            offset = lanes[-1].end
    except ArtifactError:
        # A changed length is noticed only after its lane, so the error names that lane.
        _prove_fields(view, lanes)
        raise
    return tuple(lanes)


def _lane(view: memoryview, index: int, offset: int) -> Lane:
    lane = parse_lane_head(bytes(view[offset : offset + layout.LANE_HEADER.size]), index, offset)
    if lane.end > len(view):
        raise TruncatedError(
            f"it claims {lane.n_bytes} bytes, the file ends {len(view) - offset} bytes after the lane's"
            " start",
            where=lane.where,
            remedy=AGAIN,
        )
    lane = replace(lane, sha256=bytes(view[lane.end - layout.DIGEST_BYTES : lane.end]).hex())
    if lane.id != layout.LaneId.FIELD:
        check_digest(lane, sha256(_payload(view, lane)))
    return lane


def _prove_fields(view: memoryview, lanes: Sequence[Lane]) -> None:
    for lane in lanes:
        if lane.id == layout.LaneId.FIELD:
            check_digest(lane, sha256(_payload(view, lane)))


def _refuse_twins(lanes: Sequence[Lane], header: Header) -> None:
    once = {layout.LaneId.DICT}
    if not header.published:
        once |= {layout.LaneId.LANE, layout.LaneId.BATCH}
    seen: set[int] = set()
    for lane in lanes:
        if lane.id in once and lane.id in seen:
            raise DuplicateLaneError("the file has this lane already", where=lane.where)
        seen.add(lane.id)


_KINDS = {
    layout.LaneId.EDGE: layout.EDGE_KINDS,
    layout.LaneId.LANE: (layout.TRACE_KIND,),
    layout.LaneId.BATCH: (layout.BATCH_KIND,),
}


def _json_values(
    view: memoryview, lanes: Sequence[Lane], read: Mapping[int, dict[str, Json]]
) -> tuple[tuple[Lane, ...], dict[str, dict[str, Json]]]:
    """Return the lanes with their kinds, and the JSON payloads by kind. `read` holds payloads that
    were parsed before.
    """
    values: dict[str, dict[str, Json]] = {}
    known: list[Lane] = []
    budget = JsonBudget.of_file(len(view))
    for lane in lanes:
        allowed = _KINDS.get(layout.LaneId(lane.id)) if lane.n_bytes else None
        value = _value(view, lane, budget, read.get(lane.index)) if allowed else {}
        kind = kind_of(value, allowed, lane.where) if allowed else ""
        if kind in values:
            raise DuplicateLaneError(f"the file has a payload of kind {kind!r} already", where=lane.where)
        if kind:
            values[kind] = value
        known.append(replace(lane, kind=kind))
    return tuple(known), values


def _value(view: memoryview, lane: Lane, budget: JsonBudget, read: dict[str, Json] | None) -> dict[str, Json]:
    if read is None:
        return parse_json(_payload(view, lane), lane.where, budget)
    # A payload that was parsed before counts towards the budget as well.
    budget.decode(_payload(view, lane), lane.where)
    return read
