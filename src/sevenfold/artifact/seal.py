"""The seal: the first lane of a file, which lists everything else in it.

It lists the header, every other lane, the hashes of their chunks, and the parts of the model. The
root in the header covers only the digests of the payloads (`core.merkle.paired_root`). One of these
is the digest of the seal, and the seal binds the rest: the header, and the id, kind, length and
position of each lane. No other list of lanes matches it, so a duplicated leaf is refused.

Header and seal are enough to compute the root. A chunk can therefore be proved as soon as it
arrives (`stream`), or without reading the rest of the file (`partial`). A piece is a FIELD record,
or the whole payload of another lane.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sevenfold.artifact import layout
from sevenfold.artifact.errors import SealError
from sevenfold.artifact.frames import Lane
from sevenfold.core.hashing import Json, hex_bytes
from sevenfold.core.merkle import merkle_root, paired_root

# Bytes that one thread hashes at a time; they may span several pieces.
_BLOCK = 1 << 20
_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class SealedPiece:
    """A range of bytes that is hashed on its own. `name` is that of the tensor, "" outside FIELD.
    `chunks` are concatenated 32-byte digests.
    """

    name: str
    n_bytes: int
    chunks: bytes

    @property
    def root(self) -> bytes:
        """Return the RFC 6962 root over the digests of the chunks."""
        size = layout.DIGEST_BYTES
        return merkle_root([self.chunks[start : start + size] for start in range(0, len(self.chunks), size)])


@dataclass(frozen=True)
class SealedLane:
    """The description of one lane in the seal."""

    id: int
    kind: str
    n_bytes: int
    sha256: bytes
    pieces: tuple[SealedPiece, ...]

    def lists(self, lane: Lane) -> bool:
        """Return whether the lane has the listed id, length and digest."""
        return (self.id, self.n_bytes, self.sha256.hex()) == (lane.id, lane.n_bytes, lane.sha256)


@dataclass(frozen=True)
class Seal:
    """A seal payload with a valid shape. Its claims are compared with the bytes elsewhere."""

    header: str
    chunk_bytes: int
    # The lanes after the seal, in file order.
    lanes: tuple[SealedLane, ...]
    parts: Mapping[str, str]

    @property
    def n_bytes(self) -> int:
        """Return the total size of the listed lanes, with their heads and digests."""
        return sum(lane.n_bytes + layout.LANE_OVERHEAD for lane in self.lanes)

    def located(self, lanes: Iterable[Lane]) -> Iterator[tuple[Lane, SealedPiece, int]]:
        """Yield every piece with its lane and its offset in the file. `lanes` are the lanes of the
        file without the seal.
        """
        for lane, listed in zip(lanes, self.lanes, strict=False):
            offset = lane.payload_offset
            for piece in listed.pieces:
                yield lane, piece, offset
                offset += piece.n_bytes


def chunk_digests(buffers: Iterable[bytes | memoryview], size: int) -> bytes:
    """Return the SHA-256 of each chunk of `size` bytes of the concatenated buffers, without joining
    them.
    """
    digests, hasher, filled = [], hashlib.sha256(), 0
    for buffer in buffers:
        view, start = memoryview(buffer), 0
        while start < len(view):
            taken = view[start : start + size - filled]
            hasher.update(taken)
            start, filled = start + len(taken), filled + len(taken)
            if filled == size:
                digests.append(hasher.digest())
                hasher, filled = hashlib.sha256(), 0
    if filled:
        digests.append(hasher.digest())
    return b"".join(digests)


def all_chunk_digests(views: Sequence[memoryview], size: int) -> list[bytes]:
    """Return `chunk_digests` of each view, on every core, because hashing releases the interpreter
    lock.
    """
    jobs: list[list[tuple[int, memoryview]]] = [[]]
    block, filled = max(_BLOCK // size, 1) * size, 0
    for i, view in enumerate(views):
        for start in range(0, len(view), block):
            jobs[-1].append((i, view[start : start + block]))
            filled += len(jobs[-1][-1][1])
            if filled >= block:
                jobs.append([])
                filled = 0

    def digests(job: list[tuple[int, memoryview]]) -> list[tuple[int, bytes]]:
        return [(i, chunk_digests([part], size)) for i, part in job]

    rows = [b""] * len(views)
    with ThreadPoolExecutor(_THREADS) as pool:
        for done in pool.map(digests, jobs):
            for i, found in done:
                rows[i] += found
    return rows


def part_roots(pieces: Iterable[SealedPiece]) -> dict[str, str]:
    """Return the root of each part of the model as hex: RFC 6962 over the roots of its records in
    file order.
    """
    leaves: dict[str, list[bytes]] = {}
    for piece in pieces:
        if piece.name:
            leaves.setdefault(layout.part_of(piece.name), []).append(piece.root)
    return {name: merkle_root(leaves[name]).hex() for name in sorted(leaves)}


def chunk_size(n_bytes: int) -> int:
    """Return the chunk size of the writer: 64 KiB, doubled until the hex of all digests takes at
    most half of a JSON lane.
    """
    size = layout.CHUNK_BYTES
    while n_bytes // size * 2 * layout.DIGEST_BYTES > layout.MAX_JSON_BYTES // 2:
        size *= 2
    return size


def seal_payload(head: bytes, size: int, lanes: Sequence[SealedLane]) -> dict[str, Json]:
    """Return the JSON of a seal. `head` holds the 8 header bytes before the root."""
    return {
        "kind": layout.SEAL_KIND,
        "header": head.hex(),
        "chunk_bytes": size,
        "lanes": [
            {
                "id": int(lane.id),
                "kind": lane.kind,
                "n_bytes": lane.n_bytes,
                "sha256": lane.sha256.hex(),
                "pieces": [
                    {"name": piece.name, "n_bytes": piece.n_bytes, "chunks": piece.chunks.hex()}
                    for piece in lane.pieces
                ],
            }
            for lane in lanes
        ],
        "parts": part_roots(piece for lane in lanes for piece in lane.pieces),
    }


class _Shape:
    """Extracts typed values from hostile JSON. Every mismatch is a SealError that names the place."""

    def __init__(self, value: Json, where: str) -> None:
        self.value, self.where = value, where
        if not isinstance(value, dict):
            raise SealError("an object was expected", where=where)

    def fail(self, key: str, what: str) -> SealError:
        return SealError(f"{key} is not {what}", where=self.where)

    def text(self, key: str) -> str:
        value = self.value.get(key)
        if not isinstance(value, str) or not value.isascii():
            raise self.fail(key, "a text")
        return value

    def integer(self, key: str, most: int) -> int:
        value = self.value.get(key)
        if type(value) is not int or not 0 <= value <= most:
            raise self.fail(key, f"an integer from 0 to {most}")
        return value

    def digests(self, key: str, count: int) -> bytes:
        try:
            raw = hex_bytes(self.text(key))
        except ValueError as error:
            raise self.fail(key, "lower-case hexadecimal") from error
        if len(raw) != count * layout.DIGEST_BYTES:
            raise self.fail(key, f"{count} digests")
        return raw

    def objects(self, key: str) -> Iterator[_Shape]:
        values = self.value.get(key)
        if not isinstance(values, list):
            raise self.fail(key, "a list")
        for index, value in enumerate(values):
            yield _Shape(value, f"{self.where}, {key} {index}")


def _piece(shape: _Shape, size: int) -> SealedPiece:
    n_bytes = shape.integer("n_bytes", layout.MAX_LANE_BYTES)
    return SealedPiece(shape.text("name"), n_bytes, shape.digests("chunks", -(-n_bytes // size)))


def _lane(shape: _Shape, size: int) -> SealedLane:
    lane = SealedLane(
        shape.integer("id", max(layout.LaneId)),
        shape.text("kind"),
        shape.integer("n_bytes", layout.MAX_LANE_BYTES),
        shape.digests("sha256", 1),
        tuple(_piece(piece, size) for piece in shape.objects("pieces")),
    )
    if lane.id not in set(layout.LaneId):
        raise shape.fail("id", "that of a lane")
    if sum(piece.n_bytes for piece in lane.pieces) != lane.n_bytes:
        raise shape.fail("pieces", f"{lane.n_bytes} bytes in all")
    return lane


def parse_seal(value: Json, where: str) -> Seal:
    """Parse a seal from a JSON payload. Raises SealError."""
    shape = _Shape(value, where)
    size = shape.integer("chunk_bytes", layout.MAX_CHUNK_BYTES)
    if size < layout.MIN_CHUNK_BYTES or size & (size - 1):
        raise shape.fail("chunk_bytes", f"a power of two from {layout.MIN_CHUNK_BYTES}")
    parts = _Shape(value.get("parts"), f"{where}, parts")
    return Seal(
        header=shape.text("header"),
        chunk_bytes=size,
        lanes=tuple(_lane(lane, size) for lane in shape.objects("lanes")),
        parts={name: parts.digests(name, 1).hex() for name in parts.value},
    )


def sealed_root(lane: Lane, seal: Seal) -> bytes:
    """Return the root over the lane of the seal, which is the first, and the lanes that it lists."""
    return paired_root([bytes.fromhex(lane.sha256), *(listed.sha256 for listed in seal.lanes)])
