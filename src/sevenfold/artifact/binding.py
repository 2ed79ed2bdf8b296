"""Check that the root and the seal match the file.

The published root covers only the digests of the payloads. Header bytes and lane ids can change
without changing it. The last lane can be repeated, and one payload can be split into two lanes
whose digests it holds. Version 3 prevents this: one lane is the seal, which lists the header and
all other lanes. A file of version 1 or 2 that contains a seal is a version 3 file whose header was
changed, and it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sevenfold.artifact import layout
from sevenfold.artifact.errors import EarlierFormError, RootError, SealError, VersionError
from sevenfold.artifact.frames import AGAIN, SEAL_AGAIN, Header, Lane
from sevenfold.artifact.json_lane import JsonBudget, parse_json, shown
from sevenfold.artifact.seal import Seal, parse_seal
from sevenfold.core.errors import ArtifactError
from sevenfold.core.hashing import Json
from sevenfold.core.merkle import merkle_root, paired_root

ROOT_PLACE = "header, root field at offset 8"
NO_SEAL = (
    f"format version {layout.VERSION} has a seal among its lanes, this file has none: header and lanes are"
    " not bound"
)
NOT_BOUND = (
    "the header: format version, class and flags",
    "of each lane its id, so what its bytes are taken for",
    (
        "how many lanes there are: a last lane may stand twice, and a payload of 64 bytes may stand for two"
        " lanes"
    ),
    "the origin of the model and its answers: no identity, no control records, no golden logits",
)
"""The facts that the root of a published file does not bind, as text for people."""


def _spelled(word: str) -> str:
    """Return a pattern for a JSON string in which each ASCII letter may be escaped."""
    letters = (f"(?:{c}|\\\\u00(?i:{ord(c):02x}))" for c in word)
    return f'"{"".join(letters)}"'


_CALLS_ITSELF_A_SEAL = re.compile(
    f"{_spelled('kind')}[ \\t\\n\\r]*:[ \\t\\n\\r]*{_spelled(layout.SEAL_KIND)}".encode()
)


def seal_value(payload: bytes | memoryview, where: str, n_bytes: int) -> dict[str, Json]:
    """Return a payload that declares itself a seal; {} for any other payload.

    `parse_seal` checks the shape of the result.

    Args:
        payload: the payload of any lane, whatever its id.
        where: the name of the lane in messages.
        n_bytes: the size of the file, which bounds what may be parsed.
    """
    if len(payload) > layout.MAX_JSON_BYTES or bytes(payload[:1]) != b"{":
        return {}
    # A dictionary can be ten times as long as a seal, and parsing it costs as much as hashing it.
    # So the first bytes are searched before anything is parsed.
    if not _CALLS_ITSELF_A_SEAL.search(payload):
        return {}
    try:
        value = parse_json(bytes(payload), where, JsonBudget.of_file(n_bytes))
    except ArtifactError:
        return {}
    return value if value.get("kind") == layout.SEAL_KIND else {}


def refuse_disguised(lane: Lane, payload: bytes | memoryview, header: Header, n_bytes: int) -> None:
    """Refuse a file that contains a seal but claims a version without one. Raises VersionError."""
    if seal_value(payload, lane.where, n_bytes):
        raise VersionError(
            f"format version {header.version} has no seal, {lane.where} is one: the header was changed, "
            f"the file is of version {layout.VERSION}",
            where="header, offset 4",
            remedy=AGAIN,
        )


def check_binding(
    view: memoryview, header: Header, lanes: Sequence[Lane]
) -> tuple[dict[int, dict[str, Json]], Seal | None]:
    """Refuse a file whose root does not match its lanes, or whose seal does not match its header
    and lanes.

    Returns:
        The seal as JSON under the index of its lane, and the parsed seal. A file without a seal gives
        ({}, None).

    Raises:
        RootError: the root does not match the lanes.
        SealError: the seal does not match the header or the lanes.
        VersionError: the version in the header was changed.
        EarlierFormError: the file has a form of before version 3.
    """
    seals = {
        lane.index: value
        for lane in lanes
        if (value := seal_value(_payload(view, lane), lane.where, len(view)))
    }
    if paired_root([bytes.fromhex(lane.sha256) for lane in lanes]) != header.root:
        _refuse_earlier_form(view, header, lanes)
        where, what = _changed_place(view, lanes, seals)
        raise RootError(f"{what}; the root does not match", where=where, remedy=AGAIN)
    if header.published:
        for index in seals:
            refuse_disguised(lanes[index], _payload(view, lanes[index]), header, len(view))
        return {}, None
    return seals, _checked_seal(view, lanes, seals) if lanes else None


def _payload(view: memoryview, lane: Lane) -> memoryview:
    return view[lane.payload_offset : lane.payload_offset + lane.n_bytes]


def _refuse_earlier_form(view: memoryview, header: Header, lanes: Sequence[Lane]) -> None:
    head = bytes(view[: layout.ROOT_OFFSET])
    if header.published and merkle_root([head, *(lane.leaf for lane in lanes)]) == header.root:
        raise EarlierFormError(
            f"the root is that of the form which sevenfold wrote as version {header.version} before version"
            " 3, not that of the published contract",
            where=ROOT_PLACE,
            remedy=SEAL_AGAIN,
        )


def _checked_seal(view: memoryview, lanes: Sequence[Lane], seals: dict[int, dict[str, Json]]) -> Seal:
    """Return the parsed seal of a file whose root is right, after comparing it with header and
    lanes.
    """
    if not seals:
        # A seal that is not JSON, or exceeds a cap, raises its own error first.
        if lanes[0].id == layout.LaneId.EDGE:
            parse_json(_payload(view, lanes[0]), lanes[0].where, JsonBudget.of_file(len(view)))
        raise SealError(NO_SEAL, where="header, offset 4", remedy=AGAIN)
    own = lanes[min(seals)]
    if own.id == layout.LaneId.EDGE:
        seal = parse_seal(seals[own.index], f"{own.where}, seal")
        head = bytes(view[: layout.ROOT_OFFSET])
        others = [lane for lane in lanes if lane is not own]
        if seal.header == head.hex() and lists_all(seal, others):
            return seal
    where, what = _changed_place(view, lanes, seals)
    raise RootError(f"{what}; the seal does not match", where=where, remedy=AGAIN)


def lists_all(seal: Seal, lanes: Sequence[Lane]) -> bool:
    """Return whether the seal lists exactly these lanes, in this order, apart from its own."""
    same = (listed.lists(lane) for listed, lane in zip(seal.lanes, lanes, strict=False))
    return len(seal.lanes) == len(lanes) and all(same)


def _changed_place(
    view: memoryview, lanes: Sequence[Lane], seals: dict[int, dict[str, Json]]
) -> tuple[str, str]:
    """Return which part of a file was changed, according to its seal.

    Every payload matches its own digest at this point. What remains is a changed header or lane id,
    or a lane that was added, removed or moved.
    """
    if not seals:
        return (
            ROOT_PLACE,
            (
                f"the {len(lanes)} lanes found do not give the root in the header: "
                "lanes are missing (truncated), or the root was changed"
            ),
        )
    own = lanes[min(seals)]
    seal = seals[own.index]
    head = bytes(view[: layout.ROOT_OFFSET])
    if own.id != layout.LaneId.EDGE:
        return own.where, f"its id is {own.id}, a seal lies in EDGE"
    if seal.get("header") != head.hex():
        return "header", f"its first bytes are {head.hex()}, the seal lists {_show(seal, 'header')}"
    others, listed = [lane for lane in lanes if lane is not own], seal.get("lanes")
    listed = listed if isinstance(listed, list) else []
    for lane, entry in zip(others, listed, strict=False):
        if not isinstance(entry, dict) or entry.get("id") != lane.id:
            return lane.where, f"its id is {lane.id}, the seal lists {_show(entry, 'id')}"
        if entry.get("sha256") != lane.sha256:
            return lane.where, "its payload is not the one that the seal lists"
        if entry.get("n_bytes") != lane.n_bytes:
            return (
                lane.where,
                f"its payload has {lane.n_bytes} bytes, the seal lists {_show(entry, 'n_bytes')}",
            )
    if len(others) < len(listed):
        return (
            f"lane {len(lanes)} at offset {len(view)}",
            (
                f"the lane is missing (truncated): the seal lists {len(listed)} lanes, the file has"
                f" {len(others)}"
            ),
        )
    if len(others) > len(listed):
        return others[len(listed)].where, f"the lane is not in the seal, which lists {len(listed)} lanes"
    if own is not lanes[0]:
        return lanes[0].where, "it stands before the seal"
    return ROOT_PLACE, "every lane is the one that was sealed, the root field was changed"


def _show(entry: Json, key: str) -> str:
    return shown(str(entry.get(key)) if isinstance(entry, dict) else repr(entry))
