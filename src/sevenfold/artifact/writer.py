"""Write `.s7l` files: one byte form for given contents, and a file that appears whole or not at
all.

Tensors are sorted and JSON is canonical. The seal comes first and lists header, lanes and chunks,
so that a changed byte can be named. The other lanes follow in ascending order of id, EDGE lanes by
kind. Cost: two SHA-256 passes over the payloads. Tensor data is not copied.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sevenfold.artifact import layout
from sevenfold.artifact.errors import ContentsError, ExistingArtifactError, LimitError
from sevenfold.artifact.json_lane import JsonBudget, encode_json
from sevenfold.artifact.records import Tensor, canonical_order, check_tensor, record_chunks
from sevenfold.artifact.seal import SealedLane, SealedPiece, chunk_digests, chunk_size, seal_payload
from sevenfold.core.errors import StorageError, storage
from sevenfold.core.files import atomic_writer
from sevenfold.core.hashing import Json
from sevenfold.core.merkle import paired_root

SEALED_MODE = 0o444


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The contents of a file.

    JSON values are objects, and the writer sets their `kind`. An empty value gets no lane.
    """

    class_: int
    padded: bool
    dictionary: bytes
    tensors: Sequence[Tensor]
    graph: Json = field(default_factory=dict)
    control: Json = field(default_factory=dict)
    provenance: Json = field(default_factory=dict)
    trace: Json = field(default_factory=dict)
    batch: Json = field(default_factory=dict)
    # Largest size of a FIELD lane. A record that would exceed it begins a new lane.
    lane_limit: int = layout.MAX_LANE_BYTES


@dataclass(frozen=True)
class Sealed:
    """Path, root and size of the written file."""

    root: str
    n_bytes: int


Buffers = Sequence[bytes | memoryview]


@dataclass(frozen=True, eq=False)
class LanePlan:
    """One lane to write: named pieces of its payload (one for each FIELD record), its length and
    its digest.
    """

    id: int
    kind: str
    pieces: Sequence[tuple[str, Buffers]]
    n_bytes: int
    sha256: bytes

    @property
    def leaf(self) -> bytes:
        """Return the leaf of the lane in `collapse.hash` (rule V3)."""
        return layout.lane_leaf(self.id, self.n_bytes, self.sha256)

    @property
    def buffers(self) -> list[bytes | memoryview]:
        """Return the payload as buffers to write in order."""
        return [buffer for _, buffers in self.pieces for buffer in buffers]

    def sealed(self, size: int) -> SealedLane:
        """Return the entry of the lane in the seal, with chunks of `size` bytes."""
        pieces = (
            SealedPiece(name, sum(map(len, buffers)), chunk_digests(buffers, size))
            for name, buffers in self.pieces
        )
        return SealedLane(self.id, self.kind, self.n_bytes, self.sha256, tuple(pieces))


def plan_lane(lane_id: int, pieces: Sequence[tuple[str, Buffers]], kind: str = "") -> LanePlan:
    """Measure and hash one payload."""
    hasher, n_bytes = hashlib.sha256(), 0
    for _, buffers in pieces:
        for buffer in buffers:
            hasher.update(buffer)
            n_bytes += len(buffer)
    return LanePlan(lane_id, kind, pieces, n_bytes, hasher.digest())


def plan_fields(
    tensors: Sequence[Tensor], *, padded: bool, limit: int = layout.MAX_LANE_BYTES
) -> list[LanePlan]:
    """Return FIELD lanes for the tensors, in canonical order.

    A new lane begins where a record would exceed `limit` bytes, and where the training weights
    begin. So the lanes before the training weights are the same with and without them.

    Raises:
        ContentsError: a tensor that no record holds, a repeated name, or a missing required tensor.
    """
    for tensor in tensors:
        check_tensor(tensor)
    missing = set(layout.REQUIRED_TENSORS) - {tensor.name for tensor in tensors}
    if missing:
        raise ContentsError(f"no tensor {min(missing)!r}; every artifact has it (A10)")
    groups: list[list[tuple[str, Buffers]]] = [[]]
    filled, training = 0, False
    for tensor in canonical_order(tensors):
        chunks = record_chunks(tensor, padded)
        n_bytes = sum(len(chunk) for chunk in chunks)
        if n_bytes > limit:
            raise ContentsError(
                f"its record takes {n_bytes} bytes, a lane holds {limit}", where=f"tensor {tensor.name!r}"
            )
        turned = tensor.training != training
        if groups[-1] and (turned or filled + n_bytes > limit):
            groups.append([])
            filled = 0
        groups[-1].append((tensor.name, chunks))
        filled, training = filled + n_bytes, training != turned
    return [plan_lane(layout.LaneId.FIELD, group) for group in groups]


def plan_json(lane_id: int, kind: str, value: Json) -> list[LanePlan]:
    """Return the lane of one JSON object with its `kind` set; no lane for an empty object.

    Raises ContentsError.
    """
    if not value:
        return []
    if not isinstance(value, dict):
        raise ContentsError(f"a {type(value).__name__}, an object was expected", where=kind)
    if value.get("kind", kind) != kind:
        raise ContentsError(f"its kind is {value['kind']!r}", where=kind)
    return [plan_lane(lane_id, [("", [encode_json({**value, "kind": kind}, kind)])], kind)]


def header_head(class_: int, padded: bool) -> bytes:
    """Return the 8 header bytes before the root. Raises ContentsError for an unknown class."""
    if class_ not in set(layout.ModelClass):
        raise ContentsError(f"model class {class_}, known are 1 dense and 2 MoE")
    flags = layout.header_flags(class_, padded)
    return layout.HEADER.pack(layout.MAGIC, layout.VERSION, class_, flags, b"")[: layout.ROOT_OFFSET]


def plan_contents(contents: Contents) -> list[LanePlan]:
    """Return all lanes of the file in order. Raises ContentsError."""
    head = header_head(contents.class_, contents.padded)
    if len(contents.dictionary) > layout.MAX_DICT_BYTES:
        raise ContentsError(
            f"{len(contents.dictionary)} bytes, the cap is {layout.MAX_DICT_BYTES}", where="DICT"
        )
    edge = layout.LaneId.EDGE
    lanes = [
        *([plan_lane(layout.LaneId.DICT, [("", [contents.dictionary])])] if contents.dictionary else []),
        *plan_fields(contents.tensors, padded=contents.padded, limit=contents.lane_limit),
        *plan_json(layout.LaneId.LANE, layout.TRACE_KIND, contents.trace),
        *plan_json(edge, "control", contents.control),
        *plan_json(edge, "graph", contents.graph),
        *plan_json(edge, "provenance", contents.provenance),
        *plan_json(layout.LaneId.BATCH, layout.BATCH_KIND, contents.batch),
    ]
    if len(lanes) >= layout.MAX_LANES:
        raise ContentsError(f"{len(lanes)} lanes and the seal, the cap is {layout.MAX_LANES}")
    size = chunk_size(sum(lane.n_bytes for lane in lanes))
    seal = seal_payload(head, size, [lane.sealed(size) for lane in lanes])
    lanes = [*plan_json(edge, layout.SEAL_KIND, seal), *lanes]
    _check_budget(lanes, len(contents.tensors))
    return lanes


def _check_budget(lanes: Sequence[LanePlan], n_tensors: int) -> None:
    """Refuse contents that the reader would refuse in a file of this size. Raises ContentsError."""
    n_bytes = layout.HEADER_BYTES + sum(layout.LANE_OVERHEAD + lane.n_bytes for lane in lanes)
    if n_tensors > layout.max_tensors(n_bytes):
        raise ContentsError(
            f"{n_tensors} tensors, a file of {n_bytes} bytes may hold {layout.max_tensors(n_bytes)}"
        )
    budget = JsonBudget.of_file(n_bytes)
    for lane in lanes:
        if lane.kind:
            try:
                budget.decode(b"".join(lane.buffers), lane.kind)
            except LimitError as error:
                raise ContentsError(error.what, where=lane.kind) from error


def file_chunks(head: bytes, lanes: Sequence[LanePlan]) -> tuple[bytes, list[bytes | memoryview]]:
    """Return the root, and the whole file as chunks to write in order."""
    root = paired_root([lane.sha256 for lane in lanes])
    chunks: list[bytes | memoryview] = [head + root]
    for lane in lanes:
        chunks += [layout.LANE_HEADER.pack(lane.id, lane.n_bytes), *lane.buffers, lane.sha256]
    return root, chunks


def pack(contents: Contents) -> tuple[bytes, list[bytes | memoryview]]:
    """Return the root of the contents, and the file as chunks. Raises ContentsError."""
    return file_chunks(header_head(contents.class_, contents.padded), plan_contents(contents))


def header_only(class_: int) -> bytes:
    """Return the 40 bytes of a file without lanes (A11)."""
    return bytes(file_chunks(header_head(class_, False), [])[1][0])


def write_artifact(path: Path | str, contents: Contents, *, replace: bool = False) -> Sealed:
    """Seal `contents` into `path`, mode 0444, atomically.

    Args:
        path: the file to write; its directory is created.
        contents: the contents to seal.
        replace: whether a sealed file with another root may be replaced. A file that is not an
            artifact is never replaced.

    Raises:
        ContentsError: the contents cannot be sealed.
        ExistingArtifactError: the path holds another model and `replace` is false, or it holds
            something that is not a model.
        StorageError: the directory cannot be written, or the disk is full; nothing is left behind.
    """
    path = Path(path)
    _refuse_foreign(path)
    root, chunks = pack(contents)
    header = bytes(chunks[0])
    new = not replace and not _holds(path, header)
    try:
        with atomic_writer(path, SEALED_MODE, exclusive=new) as file:
            for chunk in chunks:
                file.write(chunk)
    except StorageError as error:
        if not isinstance(error.__cause__, FileExistsError):
            raise
        # Another process wrote the same file first, and the same model serves as well.
        _holds(path, header)
    return Sealed(root.hex(), sum(len(chunk) for chunk in chunks))


def _refuse_foreign(path: Path) -> None:
    """Refuse to overwrite a file that is not an artifact, even with `replace`. Raises
    ExistingArtifactError.
    """
    with storage(path):
        if not path.is_file():
            return
        with path.open("rb") as file:
            head = file.read(len(layout.MAGIC))
    if head and head != layout.MAGIC:
        raise ExistingArtifactError(
            "the path holds a file that is not an artifact", where=str(path), remedy="choose another path"
        )


def _holds(path: Path, header: bytes) -> bool:
    """Return whether `path` holds the model of that header; False when nothing is there.

    Raises ExistingArtifactError.
    """
    with storage(path):
        if not path.exists():
            return False
        with path.open("rb") as file:
            head = file.read(layout.HEADER_BYTES)
    if head == header:
        return True
    version = int.from_bytes(head[4:6], "big")
    held = (
        f"root {head[layout.ROOT_OFFSET :].hex()}, version {version}"
        if head[:4] == layout.MAGIC
        else "not an artifact"
    )
    raise ExistingArtifactError(
        f"the path holds another file ({held}; to be written: root {header[layout.ROOT_OFFSET :].hex()})",
        where=str(path),
        remedy="--replace gives it up; or choose another path",
    )
