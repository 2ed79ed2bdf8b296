"""Prove one part of a model, one tensor or a range of bytes, without reading the rest.

Opening a file proves its seal, and the seal lists the hash of every chunk. The chunks of the
request are hashed, and no other byte of FIELD is read. Cost: one SHA-256 pass over those chunks, on
every core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sevenfold.artifact import layout
from sevenfold.artifact.errors import ChunkError, SealError
from sevenfold.artifact.frames import AGAIN, Lane
from sevenfold.artifact.reader import Artifact
from sevenfold.artifact.seal import Seal, SealedPiece, all_chunk_digests, part_roots
from sevenfold.core.errors import UsageError


@dataclass(frozen=True)
class Proved:
    """The parts and the amount that a partial check hashed."""

    what: str
    n_bytes: int
    n_chunks: int


def proved_seal(artifact: Artifact) -> Seal:
    """Return the seal of an opened file, which matches its lanes. Raises SealError when there is
    none.
    """
    seal = artifact.seal
    if seal is None:
        raise SealError(
            "the file has no seal, so no part of it can be proved alone",
            where=str(artifact.path),
            remedy="verify the whole file",
        )
    return seal


def verify_part(artifact: Artifact, name: str) -> Proved:
    """Prove a part of the model (`trunk`, `expert.N`, `training`) or one tensor.

    Raises:
        ChunkError: a chunk is not the one that was sealed.
        SealError: a sub-root is not the one that was sealed.
        UsageError: the file has no part and no tensor of that name.
    """
    seal = proved_seal(artifact)
    pieces = list(seal.located(artifact.sealed_lanes))
    chosen = [row for row in pieces if row[1].name and name in (row[1].name, layout.part_of(row[1].name))]
    if not chosen:
        raise UsageError(
            f"no part and no tensor {name!r}", remedy=f"parts are {', '.join(sorted(seal.parts)) or 'none'}"
        )
    n_chunks = _check(
        artifact, seal, [(lane, piece, start, 0, piece.n_bytes) for lane, piece, start in chosen]
    )
    if name in seal.parts:
        _check_parts({name: seal.parts[name]}, [piece for _, piece, _ in chosen])
    return Proved(name, sum(piece.n_bytes for _, piece, _ in chosen), n_chunks)


def verify_range(artifact: Artifact, first: int, last: int) -> Proved:
    """Prove the bytes `first` to `last` - 1 of the file.

    Header, frames and JSON were proved when the file was opened.

    Raises:
        ChunkError: a byte is not the one that was sealed.
        SealError: the file has no seal.
        UsageError: the range is empty, or not inside the file.
    """
    if not 0 <= first < last <= artifact.n_bytes:
        raise UsageError(
            f"{first}..{last} is no range of this file", remedy=f"0 <= A < B <= {artifact.n_bytes}"
        )
    seal = proved_seal(artifact)
    rows = [
        (lane, piece, start, max(first - start, 0), min(last - start, piece.n_bytes))
        for lane, piece, start in seal.located(artifact.sealed_lanes)
        if start < last and first < start + piece.n_bytes
    ]
    return Proved(f"{first}..{last}", last - first, _check(artifact, seal, rows))


def check_everything(artifact: Artifact) -> str:
    """Hash every chunk and compute every sub-root again. Return a description of what was hashed.

    Raises:
        ChunkError: a chunk is not the one that was sealed.
        SealError: a piece or a part is not the one that was sealed.
    """
    seal = proved_seal(artifact)
    pieces = list(seal.located(artifact.sealed_lanes))
    held = [(r.name, r.start) for r in artifact.records.values()]
    if [(piece.name, start) for _, piece, start in pieces if piece.name] != held:
        raise SealError("its pieces are not the records of FIELD", where="seal")
    n_chunks = _check(
        artifact, seal, [(lane, piece, start, 0, piece.n_bytes) for lane, piece, start in pieces]
    )
    _check_parts(seal.parts, [piece for _, piece, _ in pieces])
    return f"root, {n_chunks} chunks and {len(seal.parts)} parts taken again"


_Row = tuple[
    Lane, SealedPiece, int, int, int
    # Lane, piece, offset of the piece in the file, first and last byte wanted of it.
]


def _check(artifact: Artifact, seal: Seal, rows: Iterable[_Row]) -> int:
    """Hash the chunks that hold the rows, and return their number. Raises ChunkError."""
    size, width = seal.chunk_bytes, layout.DIGEST_BYTES
    spans = [
        (lane, piece, start, first // size, -(-last // size)) for lane, piece, start, first, last in rows
    ]
    views = [
        artifact.raw(start + first * size, min(start + last * size, start + piece.n_bytes))
        for _, piece, start, first, last in spans
    ]
    for span, found in zip(spans, all_chunk_digests(views, size), strict=True):
        lane, piece, start, first, last = span
        if found != piece.chunks[first * width : last * width]:
            bad = next(
                i
                for i in range(first, last)
                if found[(i - first) * width :][:width] != piece.chunks[i * width :][:width]
            )
            raise changed_chunk(lane, piece, start + bad * size)
    return sum(last - first for *_, first, last in spans)


def changed_chunk(lane: Lane, piece: SealedPiece, offset: int) -> ChunkError:
    """Return the error that names the chunk at `offset`."""
    of = f" of {piece.name!r}" if piece.name else ""
    return ChunkError(
        f"the chunk at offset {offset}{of} does not hash to what the seal lists",
        where=lane.where,
        remedy=AGAIN,
    )


def _check_parts(sealed: Mapping[str, str], pieces: Iterable[SealedPiece]) -> None:
    found = part_roots(pieces)
    for name in sorted(sealed.keys() | found.keys()):
        if sealed.get(name) != found.get(name):
            raise SealError(f"the sub-root of {name!r} is not that of its records", where="seal")
