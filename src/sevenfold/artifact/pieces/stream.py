"""Verify a file while it arrives: each chunk is proved before the next is requested.

    verifier = StreamVerifier(root)      # the root, when it is known
    for block in download: verifier.update(block)
    verifier.finish()

The seal is the first lane, so the root and the hashes are known after a few kilobytes. The first
bad chunk stops the transfer. A file of the published contract has no seal. It is accepted only on
request, and each of its lanes is proved when the lane is complete. Its root does not bind what
`binding.NOT_BOUND` names. Memory: the seal and one chunk, or a lane of up to 16 MiB for a published
file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from dataclasses import replace
from itertools import islice

from sevenfold.artifact import layout
from sevenfold.artifact.binding import refuse_disguised
from sevenfold.artifact.errors import (
    HeaderOnlyError,
    PublishedError,
    RootError,
    SealError,
    TruncatedError,
)
from sevenfold.artifact.frames import AGAIN, Header, Lane, check_digest, parse_header, parse_lane_head
from sevenfold.artifact.json_lane import parse_json, shown
from sevenfold.artifact.pieces.partial import changed_chunk
from sevenfold.artifact.seal import Seal, SealedLane, SealedPiece, parse_seal, sealed_root
from sevenfold.core.errors import UsageError
from sevenfold.core.hashing import sha256
from sevenfold.core.merkle import paired_root

# Bytes taken at a time where no seal lists chunks.
_BLOCK = 1 << 20
# A generator that yields how many bytes it wants next and is sent those bytes.
_Steps = Generator[int, bytes, None]


class StreamVerifier:
    """Takes the bytes of a file in order, in pieces of any size.

    Args:
        root: hex root of the requested model; None accepts any.
        published: require a file of the published contract, which has no seal.
    """

    def __init__(self, root: str | None = None, *, published: bool = False) -> None:
        self.published = published
        self.root = root.lower() if root is not None else None
        self.header: Header | None = None
        self.seal: Seal | None = None
        # Bytes taken so far; all of them are proved once the seal is known.
        self.n_bytes = 0
        # None until the seal has arrived.
        self.n_bytes_total: int | None = None
        self._pending = bytearray()
        self._between_lanes = False
        # Digests of the lanes that have arrived.
        self._digests: list[bytes] = []
        self._steps = self._run()
        self._wanted = next(self._steps)

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the file.

        Raises:
            ArtifactError: a chunk, digest, frame or root is wrong. The bytes after it are not
                looked at.
        """
        self._pending += data
        taken = 0
        while len(self._pending) - taken >= self._wanted:
            block = bytes(memoryview(self._pending)[taken : taken + self._wanted])
            taken += self._wanted
            self._between_lanes = False
            self._wanted = self._steps.send(block)
            self.n_bytes += len(block)
        del self._pending[:taken]

    def finish(self) -> str:
        """End the file and return its root, as hex. Raises ArtifactError when the file is too short
        or its root is wrong.
        """
        if self.header is None:
            parse_header(bytes(self._pending))
        if self._pending or not self._between_lanes or self.header is None:
            end = self.n_bytes + len(self._pending)
            raise TruncatedError(
                f"the file ends at offset {end}, inside a lane", where="stream", remedy=AGAIN
            )
        if self.seal and len(self._digests) - 1 < len(self.seal.lanes):
            raise TruncatedError(
                f"the seal lists {len(self.seal.lanes)} lanes, {len(self._digests) - 1} have come",
                where="stream",
                remedy=AGAIN,
            )
        if paired_root(self._digests) != self.header.root:
            raise RootError("the lanes do not give the root in the header", where="header", remedy=AGAIN)
        if not self._digests and not self.published:
            raise HeaderOnlyError("a header without lanes: it holds no model", where="stream", remedy=AGAIN)
        return self.header.root.hex()

    @property
    def n_lanes(self) -> int:
        """Return the number of lanes that have arrived completely."""
        return len(self._digests)

    def _run(self) -> _Steps:
        head = yield layout.HEADER_BYTES
        self.header = parse_header(head)
        check_wanted(self.header, self.published, "header")
        if self.root is not None and self.header.root.hex() != self.root:
            raise RootError(
                f"the root is {self.header.root.hex()}, {self.root} was asked for",
                where="header",
                remedy="this is another model",
            )
        offset = layout.HEADER_BYTES
        while True:
            self._between_lanes = True
            raw = yield layout.LANE_HEADER.size
            lane = parse_lane_head(raw, len(self._digests), offset)
            if lane.index == 0 and not self.published:
                lane = yield from self._first(lane, head[: layout.ROOT_OFFSET])
            elif self.published and lane.n_bytes <= layout.MAX_JSON_BYTES:
                lane = yield from self._opaque(lane, self.header)
            else:
                lane = yield from self._lane(lane)
            self._digests.append(bytes.fromhex(lane.sha256))
            offset = lane.end
            self.n_bytes_total = self.n_bytes_total or (offset + self.seal.n_bytes if self.seal else None)

    def _first(self, lane: Lane, head: bytes) -> Generator[int, bytes, Lane]:
        """Read the seal as a whole. Root, header and chunk hashes are known afterwards."""
        if lane.id != layout.LaneId.EDGE:
            raise SealError(
                f"it is {lane.name}, a stream begins with the seal",
                where=lane.where,
                remedy=f"save the file; or {AGAIN}",
            )
        lane, payload = yield from self._whole(lane)
        value = parse_json(payload, lane.where)
        if value.get("kind") != layout.SEAL_KIND:
            raise SealError("it is no seal, with which a stream begins", where=lane.where, remedy=AGAIN)
        seal = parse_seal(value, f"{lane.where}, seal")
        if self.header is None or sealed_root(lane, seal) != self.header.root:
            raise RootError("the seal does not give the root in the header", where="header", remedy=AGAIN)
        if seal.header != head.hex():
            raise RootError(
                f"its first bytes are {head.hex()}, the seal lists {shown(seal.header)}",
                where="header",
                remedy=AGAIN,
            )
        self.seal = seal
        return lane

    def _opaque(self, lane: Lane, header: Header) -> Generator[int, bytes, Lane]:
        """Read one whole lane of a published file. A seal is refused here, because it shows that
        the header was changed.
        """
        lane, payload = yield from self._whole(lane)
        refuse_disguised(lane, payload, header, layout.MAX_LANE_BYTES)
        return lane

    def _whole(self, lane: Lane) -> Generator[int, bytes, tuple[Lane, bytes]]:
        payload = (yield lane.n_bytes) if lane.n_bytes else b""
        digest = yield layout.DIGEST_BYTES
        lane = replace(lane, sha256=digest.hex())
        check_digest(lane, sha256(payload))
        return lane, payload

    def _lane(self, lane: Lane) -> Generator[int, bytes, Lane]:
        whole = hashlib.sha256()
        listed = self._listed(lane)
        size = self.seal.chunk_bytes if self.seal else _BLOCK
        offset = lane.payload_offset
        for piece in listed.pieces if listed else (SealedPiece("", lane.n_bytes, b""),):
            for index, start in enumerate(range(0, piece.n_bytes, size)):
                block = yield min(size, piece.n_bytes - start)
                whole.update(block)
                width = layout.DIGEST_BYTES
                if listed and sha256(block) != piece.chunks[index * width : (index + 1) * width]:
                    raise changed_chunk(lane, piece, offset + start)
            offset += piece.n_bytes
        digest = yield layout.DIGEST_BYTES
        lane = replace(lane, sha256=digest.hex())
        check_digest(lane, whole.digest())
        if listed and not listed.lists(lane):
            raise RootError("its digest is not the one that the seal lists", where=lane.where, remedy=AGAIN)
        return lane

    def _listed(self, lane: Lane) -> SealedLane | None:
        """Return the entry of the seal for a lane. An unlisted lane is refused at its first byte."""
        if self.seal is None:
            return None
        listed = next(islice(self.seal.lanes, lane.index - 1, None), None)
        if listed is None or (listed.id, listed.n_bytes) != (lane.id, lane.n_bytes):
            raise RootError("the seal does not list this lane", where=lane.where, remedy=AGAIN)
        return listed


def check_wanted(header: Header, published: bool, where: str) -> None:
    """Refuse a published file where a sealed one was requested, and a sealed file where a published
    one was.

    Raises:
        PublishedError: version 1 or 2, where a sealed file was requested.
        UsageError: version 3, where a published file was requested.
    """
    if header.published and not published:
        raise PublishedError(
            f"format version {header.version} of the published contract: no seal binds its header and its"
            " lanes",
            where=where,
            remedy=(
                "--published proves its lanes and its root by the published rule, and says what they leave"
                " open"
            ),
        )
    if published and not header.published:
        raise UsageError(
            f"--published, and the file is of format version {header.version}, which has a seal",
            remedy="leave out --published",
        )
