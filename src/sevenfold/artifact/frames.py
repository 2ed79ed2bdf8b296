"""Parse the frame of a file without trusting it: its header and the first bytes of its lanes.

Two modules use it: the reader, which has the whole file, and the stream verifier, which has what
arrived so far.
"""

from __future__ import annotations

from dataclasses import dataclass

from sevenfold.artifact import layout
from sevenfold.artifact.errors import (
    ClassError,
    FlagError,
    LaneDigestError,
    LaneIdError,
    LimitError,
    MagicError,
    NewerVersionError,
    TruncatedError,
    VersionError,
)

AGAIN = "get the file again from its source"
SEAL_AGAIN = "seal again: the form that sevenfold wrote before version 3 was never released, and is not read"
_CAPS = {
    layout.LaneId.DICT: layout.MAX_DICT_BYTES,
    layout.LaneId.FIELD: layout.MAX_LANE_BYTES,
    layout.LaneId.LANE: layout.MAX_JSON_BYTES,
    layout.LaneId.EDGE: layout.MAX_JSON_BYTES,
    layout.LaneId.BATCH: layout.MAX_JSON_BYTES,
}


@dataclass(frozen=True)
class Header:
    """The first 40 bytes of a file."""

    version: int
    class_: int
    flags: int
    root: bytes

    @property
    def padded(self) -> bool:
        """Return whether FIELD data is padded to 32 bytes. The version decides before version 3, a
        flag from version 3 on.
        """
        if self.published:
            return self.version == layout.PUBLISHED_PADDED
        return bool(self.flags & layout.Flag.PADDED)

    @property
    def published(self) -> bool:
        """Return whether the header is one of the published contract (version 1 or 2), which has no
        seal.
        """
        return self.version < layout.VERSION


@dataclass(frozen=True)
class Lane:
    """One lane: its position and its stored digest. `offset` is that of its id byte."""

    index: int
    id: int
    offset: int
    # Length of the payload.
    n_bytes: int
    sha256: str = ""
    # Kind of a JSON payload: control, graph, provenance, seal, trace or gradient_trace.
    kind: str = ""

    @property
    def name(self) -> str:
        """Return DICT, FIELD, LANE, EDGE or BATCH."""
        return layout.LaneId(self.id).name

    @property
    def payload_offset(self) -> int:
        """Return the offset of the payload in the file."""
        return self.offset + layout.LANE_HEADER.size

    @property
    def end(self) -> int:
        """Return the offset of the first byte after the lane."""
        return self.offset + layout.LANE_OVERHEAD + self.n_bytes

    @property
    def leaf(self) -> bytes:
        """Return the leaf of the lane in `collapse.hash` (rule V3)."""
        return layout.lane_leaf(self.id, self.n_bytes, bytes.fromhex(self.sha256))

    @property
    def where(self) -> str:
        """Return the name of the lane in messages: `lane 2 (LANE) at offset 1234`."""
        return f"lane {self.index} ({self.name}) at offset {self.offset}"


def parse_header(head: bytes) -> Header:
    """Parse the header from the first 40 bytes of a file, or from all of a shorter file. Raises
    ArtifactError.
    """
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
    _check_class(version, class_)
    _check_flags(version, class_, flags)
    return Header(version, class_, flags, root)


def _check_class(version: int, class_: int) -> None:
    where = "header, offset 6"
    if class_ not in set(layout.ModelClass):
        raise ClassError(
            f"model class {class_:#04x}, known are 0x01 dense and 0x02 MoE", where=where, remedy=AGAIN
        )
    if version == layout.PUBLISHED_PADDED and class_ != layout.ModelClass.MOE:
        raise ClassError(
            f"class {class_:#04x} dense, format version {version} of the published contract is MoE (0x02)"
            " only",
            where=where,
            remedy=f"{AGAIN}; or, if an earlier sevenfold wrote it, {SEAL_AGAIN}",
        )


def _check_flags(version: int, class_: int, flags: int) -> None:
    """Refuse a flag without a meaning, or one that contradicts the class. Raises FlagError."""
    where = "header, offset 7"
    known = set(layout.Flag) if version == layout.VERSION else set(layout.PUBLISHED_FLAGS)
    for bit in range(8):
        if flags >> bit & 1 and 1 << bit not in known:
            names = ", ".join(f"bit {flag.bit_length() - 1} {flag.name}" for flag in sorted(known))
            raise FlagError(
                f"flags {flags:#04x}: bit {bit} has no meaning in format version {version}, known are"
                f" {names}",
                where=where,
                remedy="install a reader that knows the flag; or, if a byte was changed, " + AGAIN,
            )
    moe = class_ == layout.ModelClass.MOE
    if flags & layout.Flag.MOE and not moe:
        raise FlagError(
            f"flags {flags:#04x}: bit 2 says MoE, the class {class_:#04x} says dense",
            where=where,
            remedy=AGAIN,
        )
    if version == layout.VERSION and (not flags & layout.Flag.INT8 or bool(flags & layout.Flag.MOE) != moe):
        raise FlagError(
            f"flags {flags:#04x}: format version {version} has bit 0 INT8 set, and bit 2 MoE for class 0x02"
            " alone",
            where=where,
            remedy=AGAIN,
        )


def parse_lane_head(raw: bytes, index: int, offset: int) -> Lane:
    """Return a lane, still without its digest, from its first five bytes. `raw` may be shorter at
    the end of the file.

    Raises:
        TruncatedError: the file ends too early.
        LaneIdError: the id is unknown.
        LimitError: the payload exceeds its cap, or there are too many lanes.
    """
    where = f"lane {index} at offset {offset}"
    if index == layout.MAX_LANES:
        raise LimitError(f"more than {layout.MAX_LANES} lanes", where=where)
    if len(raw) < layout.LANE_HEADER.size:
        raise TruncatedError(
            f"the file ends at offset {offset + len(raw)}, inside the lane's first {layout.LANE_HEADER.size}"
            " bytes",
            where=where,
            remedy=AGAIN,
        )
    lane_id, n_bytes = layout.LANE_HEADER.unpack(raw)
    if lane_id not in set(layout.LaneId):
        raise LaneIdError(f"unknown lane id {lane_id:#04x}, known are 1 to 5", where=where, remedy=AGAIN)
    lane = Lane(index, lane_id, offset, n_bytes)
    cap = _CAPS[layout.LaneId(lane_id)]
    if n_bytes > cap:
        raise LimitError(f"a payload of {n_bytes} bytes, the cap of this lane is {cap}", where=lane.where)
    return lane


def check_digest(lane: Lane, found: bytes) -> None:
    """Refuse a payload that does not match its stored digest. Raises LaneDigestError."""
    if found.hex() != lane.sha256:
        raise LaneDigestError(
            "the payload does not hash to the digest stored behind it: a byte of this lane was changed",
            where=lane.where,
            remedy=AGAIN,
        )
