"""Prove that chunks came from a memory with a known root, without the memory.

A proof contains the two frames of each hit (its entry and its blob), and the sibling digests on the
path to the root. The check needs only the proof and the root. See specs/memory.md, "Proofs".
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from sevenfold.agent.memory import frames as fr
from sevenfold.agent.memory.embed import WIDTH
from sevenfold.agent.memory.errors import DamagedMemoryError, ForeignMemoryError
from sevenfold.agent.memory.search import MemoryHit
from sevenfold.agent.memory.store import FORMAT, SEGMENTS, AgentMemory, read_segment
from sevenfold.core.hashing import Json, canonical_json, sha256

PROOF_FORMAT = 1
_MAX_DEPTH = 64


def leaf_digest(leaf: bytes) -> bytes:
    """Return the digest of a leaf in the tree of RFC 6962."""
    return sha256(b"\x00" + leaf)


def merkle_path(leaves: Sequence[bytes], index: int) -> list[tuple[str, str]]:
    """Return the sibling digests on the path from a leaf to the root: (side, hex), from the bottom."""
    level = [leaf_digest(one) for one in leaves]
    path: list[tuple[str, str]] = []
    while len(level) > 1:
        beside = index ^ 1
        if beside < len(level):
            path.append(("left" if beside < index else "right", level[beside].hex()))
        paired = [sha256(b"\x01" + level[i] + level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + (level[-1:] if len(level) % 2 else [])
        index //= 2
    return path


def follow(leaf: bytes, path: Json) -> bytes:
    """Return the root of a leaf and its path. Raises ValueError when it is not a path."""
    at = leaf_digest(leaf)
    if not isinstance(path, list) or len(path) > _MAX_DEPTH:
        raise ValueError("no path")
    for side, hexed in path:
        beside = bytes.fromhex(hexed)
        if side not in ("left", "right") or len(beside) != 32:
            raise ValueError("not a step of a path")
        at = sha256(b"\x01" + (beside + at if side == "left" else at + beside))
    return at


def prove(memory: AgentMemory, hits: Sequence[MemoryHit]) -> dict[str, Json]:
    """Return the proof of hits, as JSON."""
    head = canonical_json({"format": FORMAT, "settings": memory.manifest.settings.value()})
    roots = [head, *(bytes.fromhex(one.root) for one in memory.manifest.segments)]

    read: dict[str, list[fr.SegmentFrame]] = {}

    def of(key: str | tuple[str, str]) -> Json:
        segment, index = memory.places[key]
        ref = memory.manifest.segments[segment]
        if ref.file not in read:
            read[ref.file] = read_segment(memory.path / SEGMENTS / ref.file, ref)
        frame = read[ref.file][index]
        return {
            "frame": base64.b64encode(fr.frame_bytes(frame.kind, bytes(frame.payload))).decode(),
            "in_segment": merkle_path(memory.digests[segment], index),
            "segment": ref.root,
            "in_memory": merkle_path(roots, segment + 1),
        }

    return {
        "proof": PROOF_FORMAT,
        "root": memory.manifest.root,
        "hits": [
            {
                "chunk": hit.chunk,
                "lines": list(hit.lines),
                "entry": of((hit.entry.source, hit.entry.path)),
                "blob": of(hit.entry.blob),
            }
            for hit in hits
        ],
    }


def check_proof(value: Json, root: str) -> list[dict[str, Json]]:
    """Check a proof against a root. Return source, path, lines and text of each hit.

    Raises:
        DamagedMemoryError: it is not a proof, or a byte of it was changed.
        ForeignMemoryError: it belongs to another memory.
    """
    try:
        if value["proof"] != PROOF_FORMAT or not isinstance(value["hits"], list):
            raise ValueError("not of this version")
        if value["root"] != root:
            raise ForeignMemoryError(
                f"the proof is of the root {str(value['root'])[:64]}, expected is {root}",
                remedy="name the root that the answer states",
            )
        return [_checked(hit, root) for hit in value["hits"]]
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise DamagedMemoryError(f"not a proof: {error}", remedy="ask again with --proof") from error


def _checked(hit: Json, root: str) -> dict[str, Json]:
    entry_frame, blob_frame = _frame(hit["entry"], root), _frame(hit["blob"], root)
    if (entry_frame.kind, blob_frame.kind) != (fr.ENTRY, fr.BLOB):
        raise ValueError("frames of other kinds")
    entry = fr.read_entry(entry_frame.payload, "proof")
    blob = fr.read_blob(blob_frame.payload, WIDTH, "proof")
    if entry.blob != blob.id:
        raise ValueError("the entry names another text")
    first, last = hit["lines"]
    lines = blob.text.split(b"\n")
    if not 1 <= first <= last <= len(lines):
        raise ValueError(f"lines {first} to {last} of {len(lines)}")
    return {
        "source": entry.source,
        "path": entry.path,
        "licence": entry.licence,
        "lines": [first, last],
        "text": b"\n".join(lines[first - 1 : last]).decode(),
    }


def _frame(part: Json, root: str) -> fr.SegmentFrame:
    data = fr.MAGIC + base64.b64decode(part["frame"], validate=True)
    (frame,) = fr.read_frames(data, "proof")
    segment = follow(frame.digest, part["in_segment"])
    if segment.hex() != part["segment"] or follow(segment, part["in_memory"]).hex() != root:
        raise ValueError("a frame that does not lead to the root")
    return frame
