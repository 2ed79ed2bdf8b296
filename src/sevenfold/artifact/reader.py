"""The total reader of `.s7l` files: any bytes give an `Artifact` or an `ArtifactError`, nothing else.

Order of work: header, then each lane's frame and digest in turn (so that damage is named where it is), then
the root, and only then records and JSON. Every size is checked against the file and the caps before it is
used. Cost: one pass of SHA-256; no copy of tensor data (arrays are views of a read-only memory map).
"""

from __future__ import annotations

import mmap
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from sevenfold.artifact import layout
from sevenfold.artifact.errors import (
    ClassError,
    DuplicateLaneError,
    FlagError,
    LaneDigestError,
    LaneIdError,
    LimitError,
    MagicError,
    MissingTensorError,
    NewerVersionError,
    RootError,
    TruncatedError,
    VersionError,
)
from sevenfold.artifact.json_lane import kind_of, parse_json, shown
from sevenfold.artifact.records import Tensor, parse_records
from sevenfold.core.errors import ArtifactError, StorageError, storage
from sevenfold.core.hashing import Json, sha256
from sevenfold.core.merkle import merkle_root

AGAIN = "get the file again from its source"
_CAPS = {
    layout.LaneId.DICT: layout.MAX_DICT_BYTES,
    layout.LaneId.FIELD: layout.MAX_LANE_BYTES,
    layout.LaneId.LANE: layout.MAX_JSON_BYTES,
    layout.LaneId.EDGE: layout.MAX_JSON_BYTES,
    layout.LaneId.BATCH: layout.MAX_JSON_BYTES,
}


@dataclass(frozen=True)
class Lane:
    """One lane: where it lies and what its payload hashes to. `offset` is that of its id byte."""

    index: int
    id: int
    offset: int
    n_bytes: int  # of the payload
    sha256: str
    kind: str = ""  # of a JSON payload: control, graph, provenance, trace, gradient_trace

    @property
    def name(self) -> str:
        """DICT, FIELD, LANE, EDGE or BATCH."""
        return layout.LaneId(self.id).name

    @property
    def payload_offset(self) -> int:
        """Offset of the payload in the file."""
        return self.offset + layout.LANE_HEADER.size

    @property
    def where(self) -> str:
        """The lane, as messages name it."""
        return lane_place(self.index, self.id, self.offset)


def lane_place(index: int, lane_id: int, offset: int) -> str:
    """How messages name a lane: `lane 2 (LANE) at offset 1234`."""
    return f"lane {index} ({layout.LaneId(lane_id).name}) at offset {offset}"


@dataclass(frozen=True, eq=False)
class Artifact:
    """A file whose structure, digests and root are right. What its contents promise is `verify`'s to check.

    `tensors` is in file order. `json` holds the JSON payloads by kind; empty for a version 1 file, whose
    payloads of these lanes are opaque bytes (see `payload`).
    """

    path: Path
    version: int
    class_: int
    flags: int
    root: str
    n_bytes: int
    lanes: tuple[Lane, ...]
    tensors: Mapping[str, Tensor]
    dictionary: bytes
    json: Mapping[str, dict[str, Json]]
    _buffer: memoryview = field(repr=False)

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
        """EDGE provenance: identity, seal, golden logits ({} when the file has none)."""
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
        return bool(self.flags & layout.Flag.PADDED)

    @property
    def header_only(self) -> bool:
        """A 40-byte file without lanes: nothing but zero tensors can be made of it (A11)."""
        return not self.lanes

    def payload(self, lane: Lane) -> memoryview:
        """The bytes of a lane, without a copy."""
        return self._buffer[lane.payload_offset : lane.payload_offset + lane.n_bytes]

    def computed_root(self) -> str:
        """The root taken again from the bytes: one pass of SHA-256 over the payloads."""
        leaves = [layout.lane_leaf(lane.id, lane.n_bytes, sha256(self.payload(lane))) for lane in self.lanes]
        return merkle_root([bytes(self._buffer[: layout.ROOT_OFFSET]), *leaves]).hex()

    @property
    def header_head(self) -> bytes:
        """The 8 header bytes before the root."""
        return bytes(self._buffer[: layout.ROOT_OFFSET])


def read_artifact(path: Path | str) -> Artifact:
    """Map a file and read it whole: structure, digests and root.

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
    try:
        return parse_artifact(mapped, path)
    except ArtifactError as error:
        error.where = f"{path}: {error.where}" if error.where else str(path)
        raise


def parse_artifact(buffer: bytes | mmap.mmap, path: Path | str = Path("memory")) -> Artifact:
    """Read an artifact from bytes that do not change. `path` is only kept. Raises ArtifactError."""
    view = memoryview(buffer).toreadonly()
    version, class_, flags, root = _header(view)
    lanes = _lanes(view)
    _check_root(view, lanes, root)
    _refuse_twins(lanes, version)
    payloads = {lane.index: _payload(view, lane) for lane in lanes}
    values: dict[str, dict[str, Json]] = {}
    if version >= layout.VERSION:
        lanes, values = _json_values(lanes, payloads)
    dictionary = b"".join(bytes(payloads[i.index]) for i in lanes if i.id == layout.LaneId.DICT)
    return Artifact(
        path=Path(path),
        version=version,
        class_=class_,
        flags=flags,
        root=root.hex(),
        n_bytes=len(view),
        lanes=lanes,
        tensors=MappingProxyType(_tensors(lanes, payloads, bool(flags & layout.Flag.PADDED))),
        dictionary=dictionary,
        json=MappingProxyType(values),
        _buffer=view,
    )


def _payload(view: memoryview, lane: Lane) -> memoryview:
    return view[lane.payload_offset : lane.payload_offset + lane.n_bytes]


def _header(view: memoryview) -> tuple[int, int, int, bytes]:
    head = bytes(view[: layout.HEADER_BYTES])
    if not layout.MAGIC.startswith(head[:4]):
        raise MagicError(
            f"the first bytes are {head[:4]!r}, not {layout.MAGIC!r}",
            where="header",
            remedy="name a .s7l file; this is something else, or its first bytes were changed",
        )
    if len(head) < layout.HEADER_BYTES:
        raise TruncatedError(
            f"the file ends at offset {len(head)}, the header has {layout.HEADER_BYTES} bytes",
            where="header",
            remedy=AGAIN,
        )
    _, version, class_, flags, root = layout.HEADER.unpack(head)
    if version > layout.VERSION:
        raise NewerVersionError(
            f"format version {version}, this reader knows {min(layout.VERSIONS_READ)} to {layout.VERSION}",
            where="header, offset 4",
            remedy="install a newer sevenfold, or seal the model again with this one",
        )
    if version not in layout.VERSIONS_READ:
        raise VersionError(f"format version {version} never existed", where="header, offset 4", remedy=AGAIN)
    if class_ not in set(layout.ModelClass):
        raise ClassError(
            f"model class {class_:#04x}, known are 0x01 dense and 0x02 MoE",
            where="header, offset 6",
            remedy=AGAIN,
        )
    if flags & ~int(layout.Flag.PADDED):
        raise FlagError(f"flags {flags:#04x}, known is bit 0 only", where="header, offset 7", remedy=AGAIN)
    return version, class_, flags, root


def _lanes(view: memoryview) -> tuple[Lane, ...]:
    lanes: list[Lane] = []
    offset = layout.HEADER_BYTES
    while offset < len(view):
        if len(lanes) == layout.MAX_LANES:
            raise LimitError(f"more than {layout.MAX_LANES} lanes", where=f"offset {offset}")
        lane = _lane(view, len(lanes), offset)
        lanes.append(lane)
        offset += layout.LANE_OVERHEAD + lane.n_bytes
    return tuple(lanes)


def _lane(view: memoryview, index: int, offset: int) -> Lane:
    left = len(view) - offset
    if left < layout.LANE_HEADER.size:
        raise TruncatedError(
            f"the file ends at offset {len(view)}, inside the lane's first {layout.LANE_HEADER.size} bytes",
            where=f"lane {index} at offset {offset}",
            remedy=AGAIN,
        )
    lane_id, n_bytes = layout.LANE_HEADER.unpack(view[offset : offset + layout.LANE_HEADER.size])
    if lane_id not in set(layout.LaneId):
        raise LaneIdError(
            f"unknown lane id {lane_id:#04x}, known are 1 to 5",
            where=f"lane {index} at offset {offset}",
            remedy=AGAIN,
        )
    where = lane_place(index, lane_id, offset)
    if n_bytes + layout.LANE_OVERHEAD > left:
        raise TruncatedError(
            f"it claims {n_bytes} bytes, the file ends {left} bytes after the lane's start",
            where=where,
            remedy=AGAIN,
        )
    cap = _CAPS[layout.LaneId(lane_id)]
    if n_bytes > cap:
        raise LimitError(f"a payload of {n_bytes} bytes, the cap of this lane is {cap}", where=where)
    start = offset + layout.LANE_HEADER.size
    digest = sha256(view[start : start + n_bytes])
    if digest != bytes(view[start + n_bytes : start + n_bytes + layout.DIGEST_BYTES]):
        raise LaneDigestError(
            "the payload does not hash to the digest stored behind it: a byte of this lane was changed",
            where=where,
            remedy=AGAIN,
        )
    return Lane(index, lane_id, offset, n_bytes, digest.hex())


def _check_root(view: memoryview, lanes: Sequence[Lane], root: bytes) -> None:
    head = bytes(view[: layout.ROOT_OFFSET])
    leaves = [layout.lane_leaf(lane.id, lane.n_bytes, bytes.fromhex(lane.sha256)) for lane in lanes]
    if merkle_root([head, *leaves]) == root:
        return
    where, what = _changed_place(view, head, lanes)
    raise RootError(f"{what}; the root does not match", where=where, remedy=AGAIN)


def _changed_place(view: memoryview, head: bytes, lanes: Sequence[Lane]) -> tuple[str, str]:
    """Which part of a file with a wrong root was changed, by the seal that the provenance lane holds.

    Every payload matches its own digest here: left are the header, ids, and lanes added, cut or swapped.
    """
    seal = next((found for found in (_seal(view, lane) for lane in lanes) if found), None)
    if seal is None:
        return "header, root field at offset 8", (
            f"the {len(lanes)} lanes found do not give the root in the header: "
            "lanes are missing (truncated), or the root was changed"
        )
    if seal.get("header") != head.hex():
        return "header", f"its first bytes are {head.hex()}, the seal lists {_show(seal, 'header')}"
    listed = seal["lanes"]
    for lane, entry in zip(lanes, listed, strict=False):
        if not isinstance(entry, dict) or entry.get("id") != lane.id:
            return lane.where, f"its id is {lane.id}, the seal lists {_show(entry, 'id')}"
        if entry.get("sha256", lane.sha256) != lane.sha256:
            return lane.where, "its payload is not the one that the seal lists"
    if len(lanes) < len(listed):
        return f"lane {len(lanes)} at offset {len(view)}", (
            f"the lane is missing (truncated): the seal lists {len(listed)} lanes, the file has {len(lanes)}"
        )
    if len(lanes) > len(listed):
        return lanes[len(listed)].where, f"the lane is not in the seal, which lists {len(listed)} lanes"
    return (
        "header, root field at offset 8",
        "every lane is the one that was sealed, the root field was changed",
    )


def _show(entry: Json, key: str) -> str:
    return shown(str(entry.get(key)) if isinstance(entry, dict) else repr(entry))


def _seal(view: memoryview, lane: Lane) -> dict[str, Json] | None:
    """The `seal` object of a provenance payload, whatever id its lane claims to have."""
    payload = _payload(view, lane)
    if len(payload) > layout.MAX_JSON_BYTES or bytes(payload[:1]) != b"{":
        return None
    try:
        value = parse_json(bytes(payload), lane.where)
    except ArtifactError:
        return None
    seal = value.get("seal")
    if value.get("kind") == "provenance" and isinstance(seal, dict) and isinstance(seal.get("lanes"), list):
        return seal
    return None


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
    lanes: Sequence[Lane], payloads: Mapping[int, memoryview]
) -> tuple[tuple[Lane, ...], dict[str, dict[str, Json]]]:
    """The lanes with their kinds, and the JSON payloads by kind."""
    values: dict[str, dict[str, Json]] = {}
    known: list[Lane] = []
    for lane in lanes:
        allowed = _KINDS.get(layout.LaneId(lane.id))
        value = parse_json(bytes(payloads[lane.index]), lane.where) if allowed else {}
        kind = kind_of(value, allowed or (), lane.where) if value else ""
        if kind in values:
            raise DuplicateLaneError(f"the file has a payload of kind {kind!r} already", where=lane.where)
        if kind:
            values[kind] = value
        known.append(replace(lane, kind=kind))
    return tuple(known), values


def _tensors(lanes: Sequence[Lane], payloads: Mapping[int, memoryview], padded: bool) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    fields = [lane for lane in lanes if lane.id == layout.LaneId.FIELD]
    for lane in fields:
        parse_records(payloads[lane.index], lane.payload_offset, lane.where, padded=padded, tensors=tensors)
    missing = [name for name in layout.REQUIRED_TENSORS if name not in tensors]
    if fields and missing:
        raise MissingTensorError(f"no tensor {missing[0]!r}", where=fields[-1].where)
    return tensors
