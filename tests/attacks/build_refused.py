"""Hostile artifacts that the reader itself refuses: under the root in their
header, each of them is right.

The published root covers digests of payloads alone, so these files keep the root of a sealed model
(or give one that is valid) and change what only the seal binds. `REFUSED` is the table: name ->
(what the refusal says, its builder). Run this file to write them.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from build_attacks import Parts
from packing import canonical, pack_file, pack_record, pack_sealed, paired, sha, two_tensors

Lanes = list[tuple[int, bytes]]
Seal = dict[str, Any]
DICT, FIELD, LANE, EDGE, BATCH = 1, 2, 3, 4, 5
PADDED_TENSORS = b"".join(
    pack_record(name, [32], 1.0, bytes(range(32))) for name in (b"embedding.weight", b"lm_head.weight")
)


def sample() -> tuple[bytes, Lanes]:
    """A sealed model that passes every check, and its lanes."""
    parts = Parts.sample()
    return parts.pack(), parts.lanes()


def with_lanes(data: bytes, lanes: Lanes) -> bytes:
    """The header of `data`, root and all, before other lanes."""
    body = b"".join(struct.pack(">BI", i, len(payload)) + payload + sha(payload) for i, payload in lanes)
    return data[:40] + body


def with_header(data: bytes, **changes: int) -> bytes:
    """`data` with header bytes set: `at4=1` sets the byte at offset 4."""
    changed = bytearray(data)
    for at, value in changes.items():
        changed[int(at[2:])] = value
    return bytes(changed)


def doubled_leaf() -> bytes:
    """An odd last lane, and once more: its node is paired with itself, so the root is the same."""
    parts = Parts.sample()
    parts.order.remove("gradient_trace")  # seven lanes
    data, lanes = parts.pack(), parts.lanes()
    need_same_root([*lanes, lanes[-1]], data)
    return with_lanes(data, [*lanes, lanes[-1]])


def doubled_pair() -> bytes:
    """Six lanes, and the last two once more."""
    lanes = [(EDGE, b'{"kind":"graph"}'), (LANE, b""), (BATCH, b""), (DICT, b"v"), (FIELD, two_tensors())]
    data = pack_sealed(lanes)
    six = [(EDGE, seal_of(data)), *lanes]
    need_same_root([*six, *six[-2:]], data)
    return with_lanes(data, [*six, *six[-2:]])


def node_for_lanes() -> bytes:
    """One lane whose payload is the two digests below the root: a node passes for
    a leaf, and no seal is left.
    """
    data, lanes = sample()
    digests = [sha(payload) for _, payload in lanes]
    forged = [(DICT, paired(digests[:4]) + paired(digests[4:]))]
    need_same_root(forged, data)
    return with_lanes(data, forged)


def seal_of(data: bytes) -> bytes:
    """The payload of the first lane."""
    return data[45 : 45 + int.from_bytes(data[41:45], "big")]


def need_same_root(lanes: Lanes, data: bytes) -> None:
    """The attack is one only if the root is that of the sealed file."""
    if paired([sha(payload) for _, payload in lanes]) != data[8:40]:
        raise ValueError("the lanes give another root: this is no attack on it")


def swapped_twins() -> bytes:
    """Two lanes of one payload change places: digests and root stay, what the
    bytes are taken for does not.
    """
    data = pack_sealed([(DICT, b""), (FIELD, two_tensors()), (LANE, b""), (BATCH, b"")])
    seal = (EDGE, seal_of(data))
    return with_lanes(data, [seal, (DICT, b""), (FIELD, two_tensors()), (BATCH, b""), (LANE, b"")])


def lane_id(old: int, new: int) -> Callable[[], bytes]:
    """The first lane of id `old` behind the seal gets the id `new`."""

    def build() -> bytes:
        data, lanes = sample()
        at = next(i for i, (number, _) in enumerate(lanes) if i and number == old)
        lanes[at] = (new, lanes[at][1])
        return with_lanes(data, lanes)

    return build


def stripped(version: int) -> Callable[[], bytes]:
    """The seal left out, the root taken anew."""

    def build() -> bytes:
        _, lanes = sample()
        return pack_file(lanes[1:], version=version)

    return build


def hidden_seal(new: int) -> Callable[[], bytes]:
    """Version 1, and the seal under the id of another lane; DICT gives its own up for it."""

    def build() -> bytes:
        data, lanes = sample()
        lanes = [(new, lanes[0][1]), *((LANE if i == new else i, payload) for i, payload in lanes[1:])]
        return with_header(with_lanes(data, lanes), at5=1)

    return build


def moe(**changes: int) -> bytes:
    """A sealed padded MoE file whose records lie alike in both packings, with header bytes set."""
    data = pack_sealed([(DICT, b"v"), (FIELD, PADDED_TENSORS)], class_=2, flags=0x85)
    return with_header(data, **changes)


def seal_lists(**changes: object) -> Callable[[], bytes]:
    """A seal of another header, or of other lanes, under a root that is right."""

    def build() -> bytes:
        parts = Parts.sample()
        parts.seal_patch = lambda seal: seal.update(changes)
        return parts.pack()

    return build


def lists_other_lane(**changes: object) -> Callable[[], bytes]:
    """The seal says something else of its first lane."""

    def build() -> bytes:
        parts = Parts.sample()
        parts.seal_patch = lambda seal: seal["lanes"][0].update(changes)
        return parts.pack()

    return build


def digest_of_lane(spell: Callable[[str], str]) -> Callable[[Seal], None]:
    """The digest of the first lane in another spelling."""

    def change(seal: Seal) -> None:
        seal["lanes"][0]["sha256"] = spell(seal["lanes"][0]["sha256"])

    return change


def chunks_of_piece(spell: Callable[[str], str]) -> Callable[[Seal], None]:
    """The digests of the first piece in another spelling."""

    def change(seal: Seal) -> None:
        piece = seal["lanes"][0]["pieces"][0]
        piece["chunks"] = spell(piece["chunks"])

    return change


def root_of_part(spell: Callable[[str], str]) -> Callable[[Seal], None]:
    """The roots of the parts in another spelling."""

    def change(seal: Seal) -> None:
        seal["parts"] = {name: spell(text) for name, text in seal["parts"].items()}

    return change


def by_bytes(text: str) -> str:
    """Blanks between bytes, which `bytes.fromhex` of Python leaves out."""
    return " ".join(text[at : at + 2] for at in range(0, len(text), 2))


def spelled(change: Callable[[Seal], None]) -> Callable[[], bytes]:
    """A seal that says what is true in hex digits of another spelling."""

    def build() -> bytes:
        parts = Parts.sample()
        parts.seal_patch = change
        return parts.pack()

    return build


SPELLINGS = {
    f"hex_{place.__name__}_{spell.__name__}": ("is not lower-case hexadecimal", spelled(place(spell)))
    for place in (digest_of_lane, chunks_of_piece, root_of_part)
    for spell in (str.upper, by_bytes)
}


def two_seals() -> bytes:
    """A second seal behind the first."""
    inner = canonical({"kind": "seal", "header": "", "chunk_bytes": 4096, "lanes": [], "parts": {}})
    return pack_sealed([(DICT, b"v"), (EDGE, inner)])


NO_SEAL, IS_SEAL = "this file has none", "the header was changed, the file is of version 3"
REFUSED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "doubled_leaf": ("the lane is not in the seal", doubled_leaf),
    "doubled_pair": ("the lane is not in the seal", doubled_pair),
    "node_for_lanes": (NO_SEAL, node_for_lanes),
    "twins_swapped": ("the seal lists", swapped_twins),
    "dict_as_trace": ("its id is 3, the seal lists 1", lane_id(DICT, LANE)),
    "dict_as_field": ("its id is 2, the seal lists 1", lane_id(DICT, FIELD)),
    "graph_as_trace": ("its id is 3, the seal lists 4", lane_id(EDGE, LANE)),
    "trace_as_dict": ("its id is 1, the seal lists 3", lane_id(LANE, DICT)),
    "dense_as_moe": ("the seal lists", lambda: with_header(sample()[0], at6=2, at7=5)),
    "exact_as_padded": ("the seal lists", lambda: with_header(sample()[0], at7=0x81)),
    "padded_as_exact": ("the seal lists", lambda: moe(at7=0x05)),
    "version_3_to_1": (IS_SEAL, lambda: with_header(sample()[0], at5=1)),
    "version_3_to_1_no_int8": (IS_SEAL, lambda: with_header(sample()[0], at5=1, at7=0)),
    "version_3_to_1_of_moe": (IS_SEAL, lambda: moe(at5=1, at7=5)),
    "version_3_to_2_of_moe": (IS_SEAL, lambda: moe(at5=2, at7=5)),
    "version_3_to_1_seal_as_trace": (IS_SEAL, hidden_seal(LANE)),
    "version_3_to_1_seal_as_dict": (IS_SEAL, hidden_seal(DICT)),
    "version_3_to_1_seal_as_field": (IS_SEAL, hidden_seal(FIELD)),
    "seal_left_out": (NO_SEAL, stripped(3)),
    "seal_lists_other_header": ("the seal lists 53374c4d00030201", seal_lists(header="53374c4d00030201")),
    "seal_lists_no_lane": ("the lane is not in the seal", seal_lists(lanes=[])),
    "seal_lists_other_lane": ("not the one that the seal lists", lists_other_lane(sha256="ee" * 32)),
    "seal_lists_other_id": ("its id is 1, the seal lists 3", lists_other_lane(id=3)),
    "seal_lists_other_kind": ("the seal calls the lane 'graph'", lists_other_lane(kind="graph")),
    "two_seals": ("'seal' already", two_seals),
    **SPELLINGS,
}


def main(directory: str) -> None:
    """Write every attack into `directory`, to try other readers on."""
    out = Path(directory)
    out.mkdir(parents=True, exist_ok=True)
    for name, (_, build) in REFUSED.items():
        (out / f"refused_{name}.s7l").write_bytes(build())


if __name__ == "__main__":
    main(sys.argv[1])
