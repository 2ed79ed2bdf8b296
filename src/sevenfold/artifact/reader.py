"""The total reader of `.s7l` files: any bytes give an `Artifact` or an `ArtifactError`, nothing else.

`open_artifact` maps the file and proves everything but the FIELD payloads: header, frames, root (from the digests stored), JSON.
`Artifact.prove` hashes the rest; `tensors` does it first, so that no byte reaches an engine unproved. `read_artifact` is
both. Every size is checked against the file and the caps before it is used. Cost: opening reads no weights; proving is one
pass of SHA-256; no copy of tensor data (arrays are views of a read-only memory map).
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
from sevenfold.artifact.errors import DuplicateLaneError, MissingTensorError, RootError, TruncatedError
from sevenfold.artifact.frames import AGAIN, Header, Lane, check_digest, parse_header, parse_lane_head
from sevenfold.artifact.json_lane import JsonBudget, kind_of, parse_json, shown
from sevenfold.artifact.records import Record, Tensor, parse_records
from sevenfold.artifact.seal import Seal, parse_seal
from sevenfold.core.errors import ArtifactError, StorageError, storage
from sevenfold.core.hashing import Json, sha256
from sevenfold.core.merkle import merkle_root


@dataclass(frozen=True, eq=False)
class Artifact:
    """A file whose structure, root and JSON are right. What its contents promise is `verify`'s to check.

    `json` holds the JSON payloads by kind; empty for a version 1 file, whose payloads of these lanes are opaque bytes
    (see `payload`).
    """

    path: Path
    header: Header
    n_bytes: int
    lanes: tuple[Lane, ...]
    json: Mapping[str, dict[str, Json]]
    _buffer: memoryview = field(repr=False)
    _mapped: mmap.mmap | None = field(default=None, repr=False)

    @property
    def version(self) -> int:
        """Format version."""
        return self.header.version

    @property
    def class_(self) -> int:
        """layout.ModelClass."""
        return self.header.class_

    @property
    def flags(self) -> int:
        """layout.Flag."""
        return self.header.flags

    @property
    def root(self) -> str:
        """The name of the model, as hex."""
        return self.header.root.hex()

    @property
    def header_head(self) -> bytes:
        """The 8 header bytes before the root."""
        return bytes(self._buffer[: layout.ROOT_OFFSET])

    @property
    def graph(self) -> dict[str, Json]:
        """EDGE graph: the architecture and its operations ({} when the file has none)."""
        return self.json.get("graph", {})

    @property
    def control(self) -> dict[str, Json]:
        """EDGE control: bindings and control records ({} when the file has none)."""
        return self.json.get("control", {})

    @property
    def provenance(self) -> dict[str, Json]:
        """EDGE provenance: identity, hashes, golden logits ({} when the file has none)."""
        return self.json.get("provenance", {})

    @property
    def trace(self) -> dict[str, Json]:
        """LANE: the training trace ({} when the file has none)."""
        return self.json.get(layout.TRACE_KIND, {})

    @property
    def batch(self) -> dict[str, Json]:
        """BATCH: the gradient trace ({} when the file has none)."""
        return self.json.get(layout.BATCH_KIND, {})

    @property
    def padded(self) -> bool:
        """Whether FIELD data is padded to 32 bytes."""
        return self.header.padded

    @property
    def header_only(self) -> bool:
        """A 40-byte file without lanes: nothing but zero tensors can be made of it (A11)."""
        return not self.lanes

    @property
    def anonymous(self) -> bool:
        """Whether the file does not say where it comes from (D6)."""
        return not self.provenance

    @cached_property
    def dictionary(self) -> bytes:
        """The DICT payload (b"" when the file has none)."""
        return b"".join(bytes(self.payload(lane)) for lane in self.lanes if lane.id == layout.LaneId.DICT)

    @cached_property
    def seal(self) -> Seal | None:
        """The seal, None when the file has none. Raises SealError for one that is malformed."""
        value = self.json.get(layout.SEAL_KIND)
        return parse_seal(value, f"EDGE {layout.SEAL_KIND}") if value else None

    @property
    def sealed_lanes(self) -> tuple[Lane, ...]:
        """The lanes that a seal lists: all but its own."""
        return tuple(lane for lane in self.lanes if lane.kind != layout.SEAL_KIND)

    @cached_property
    def records(self) -> Mapping[str, Record]:
        """Names, shapes and places of the tensors, in file order: the structure of FIELD, its data not read.

        Raises:
            ArtifactError: a record that is malformed, or a required tensor that is not there.
        """
        records: dict[str, Record] = {}
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
        """The tensors in file order, proved: read-only views of the file. Raises ArtifactError (see `prove`)."""
        self.prove()
        return MappingProxyType({name: self._tensor(record) for name, record in self.records.items()})

    def _tensor(self, record: Record) -> Tensor:
        raw = self._buffer[record.offset : record.offset + record.numel]
        data = np.frombuffer(raw, dtype=np.int8).reshape(record.dims)
        return Tensor(record.name, record.dims, record.scale, data, start=record.start, offset=record.offset)

    def prove(self) -> Artifact:
        """Hash the FIELD payloads and read their records, once; returns the artifact.

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
        """The bytes of a lane, without a copy; those of FIELD are what the file holds, proved or not."""
        return self._buffer[lane.payload_offset : lane.payload_offset + lane.n_bytes]

    def raw(self, start: int, end: int) -> memoryview:
        """Bytes of the file, without a copy."""
        return self._buffer[start:end]

    def release(self) -> None:
        """Give the pages of the file back to the system; a later look at a tensor reads them again."""
        if self._mapped is not None:
            self._mapped.madvise(mmap.MADV_DONTNEED)


def open_artifact(path: Path | str) -> Artifact:
    """Map a file and prove all of it but the FIELD payloads.

    Raises:
        ArtifactError: a subclass per cause, naming the lane and the offset.
        StorageError: the path is missing, unreadable, or not a regular file.
    """
    path = Path(path)
    with storage(path):
        mode = path.stat().st_mode  # before open(): opening a FIFO would wait for a writer
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
    """Map a file and prove it whole. Raises as `open_artifact` and `Artifact.prove`."""
    return open_artifact(path).prove()


def parse_artifact(buffer: bytes, path: Path | str = Path("memory")) -> Artifact:
    """Read and prove an artifact from bytes that do not change. `path` is only kept. Raises ArtifactError."""
    return _parse(buffer, Path(path)).prove()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """An error that leaves names the file."""
    try:
        yield
    except ArtifactError as error:
        error.where = f"{path}: {error.where}" if error.where else str(path)
        raise


def _parse(buffer: bytes | mmap.mmap, path: Path) -> Artifact:
    view = memoryview(buffer).toreadonly()
    header = parse_header(bytes(view[: layout.HEADER_BYTES]))
    lanes = _lanes(view)
    _check_root(view, lanes, header.root)
    _refuse_twins(lanes, header.version)
    values: dict[str, dict[str, Json]] = {}
    if header.version >= layout.VERSION:
        lanes, values = _json_values(view, lanes)
    mapped = None if isinstance(buffer, bytes) else buffer
    return Artifact(path, header, len(view), lanes, MappingProxyType(values), view, mapped)


def _payload(view: memoryview, lane: Lane) -> memoryview:
    return view[lane.payload_offset : lane.payload_offset + lane.n_bytes]


def _lanes(view: memoryview) -> tuple[Lane, ...]:
    """The frames of all lanes, contiguous to the last byte. Digests are checked but for FIELD (see `prove`)."""
    lanes: list[Lane] = []
    offset = layout.HEADER_BYTES
    try:
        while offset < len(view):
            lanes.append(_lane(view, len(lanes), offset))
            offset = lanes[-1].end
    except ArtifactError:
        _prove_fields(view, lanes)  # a changed length shows only behind its lane: name the lane
        raise
    return tuple(lanes)


def _lane(view: memoryview, index: int, offset: int) -> Lane:
    lane = parse_lane_head(bytes(view[offset : offset + layout.LANE_HEADER.size]), index, offset)
    if lane.end > len(view):
        raise TruncatedError(
            f"it claims {lane.n_bytes} bytes, the file ends {len(view) - offset} bytes after the lane's start",
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


def _check_root(view: memoryview, lanes: Sequence[Lane], root: bytes) -> None:
    head = bytes(view[: layout.ROOT_OFFSET])
    if merkle_root([head, *(lane.leaf for lane in lanes)]) == root:
        return
    _prove_fields(view, lanes)  # if a payload was changed, that is the cause
    where, what = _changed_place(view, head, lanes)
    raise RootError(f"{what}; the root does not match", where=where, remedy=AGAIN)


def _changed_place(view: memoryview, head: bytes, lanes: Sequence[Lane]) -> tuple[str, str]:
    """Which part of a file with a wrong root was changed, by the seal.

    Every payload matches its own digest here: left are the header, ids, and lanes added, cut or swapped.
    """
    own = next((lane for lane in lanes if _seal(view, lane)), None)
    if own is None:
        return "header, root field at offset 8", (
            f"the {len(lanes)} lanes found do not give the root in the header: "
            "lanes are missing (truncated), or the root was changed"
        )
    seal = _seal(view, own)
    if own.id != layout.LaneId.EDGE:
        return own.where, f"its id is {own.id}, a seal lies in EDGE"
    if seal.get("header") != head.hex():
        return "header", f"its first bytes are {head.hex()}, the seal lists {_show(seal, 'header')}"
    others, listed = [lane for lane in lanes if lane is not own], seal["lanes"]
    for lane, entry in zip(others, listed, strict=False):
        if not isinstance(entry, dict) or entry.get("id") != lane.id:
            return lane.where, f"its id is {lane.id}, the seal lists {_show(entry, 'id')}"
        if entry.get("sha256") != lane.sha256:
            return lane.where, "its payload is not the one that the seal lists"
    if len(others) < len(listed):
        return f"lane {len(lanes)} at offset {len(view)}", (
            f"the lane is missing (truncated): the seal lists {len(listed)} lanes, the file has {len(others)}"
        )
    if len(others) > len(listed):
        return others[len(listed)].where, f"the lane is not in the seal, which lists {len(listed)} lanes"
    if own is not lanes[0]:
        return lanes[0].where, "it stands before the seal"
    return (
        "header, root field at offset 8",
        "every lane is the one that was sealed, the root field was changed",
    )


def _show(entry: Json, key: str) -> str:
    return shown(str(entry.get(key)) if isinstance(entry, dict) else repr(entry))


def _seal(view: memoryview, lane: Lane) -> dict[str, Json]:
    """The payload of a seal ({} if it is none), whatever id its lane claims to have."""
    payload = _payload(view, lane)
    if len(payload) > layout.MAX_JSON_BYTES or bytes(payload[:1]) != b"{":
        return {}
    try:
        value = parse_json(payload, lane.where, JsonBudget.of_file(len(view)))
    except ArtifactError:
        return {}
    return value if value.get("kind") == layout.SEAL_KIND and isinstance(value.get("lanes"), list) else {}


def _refuse_twins(lanes: Sequence[Lane], version: int) -> None:
    once = (
        {layout.LaneId.DICT, layout.LaneId.LANE, layout.LaneId.BATCH}
        if version >= layout.VERSION
        else {layout.LaneId.DICT}
    )
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
    view: memoryview, lanes: Sequence[Lane]
) -> tuple[tuple[Lane, ...], dict[str, dict[str, Json]]]:
    """The lanes with their kinds, and the JSON payloads by kind."""
    values: dict[str, dict[str, Json]] = {}
    known: list[Lane] = []
    budget = JsonBudget.of_file(len(view))
    for lane in lanes:
        allowed = _KINDS.get(layout.LaneId(lane.id)) if lane.n_bytes else None
        value = parse_json(_payload(view, lane), lane.where, budget) if allowed else {}
        kind = kind_of(value, allowed, lane.where) if allowed else ""
        if kind in values:
            raise DuplicateLaneError(f"the file has a payload of kind {kind!r} already", where=lane.where)
        if kind:
            values[kind] = value
        known.append(replace(lane, kind=kind))
    return tuple(known), values
