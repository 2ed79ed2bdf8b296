"""Packing of artifacts by hand (struct, hashlib): every digest and the root
right, whatever the parts are.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Sequence
from typing import Any

CHUNK = 1 << 16


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def merkle(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, by its recursive definition."""
    if len(leaves) == 1:
        return sha(b"\0" + leaves[0])
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha(b"\1" + merkle(leaves[:k]) + merkle(leaves[k:]))


def paired(digests: Sequence[bytes]) -> bytes:
    """The published root, by its recursive definition: left half over right half, an odd level
    filled up with its last node.
    """
    if not digests:
        return bytes(32)
    if len(digests) == 1:
        return digests[0]
    filled = [*digests, digests[-1]] if len(digests) % 2 else digests
    return paired([sha(filled[i] + filled[i + 1]) for i in range(0, len(filled), 2)])


def pack_record(name: bytes, dims: Sequence[int], scale: float, data: bytes, padded: bool = False) -> bytes:
    tail = bytes(-len(data) % 32) if padded else b""
    head = struct.pack(">H", len(name)) + name + struct.pack(f">B{len(dims)}I", len(dims), *dims)
    return head + struct.pack(">f", scale) + data + tail


def leaf(lane_id: int, payload: bytes) -> bytes:
    return struct.pack(">BI", lane_id, len(payload)) + sha(payload)


def piece(name: str, data: bytes, size: int = CHUNK) -> dict[str, Any]:
    """How the seal lists a record, or a whole payload."""
    chunks = "".join(sha(data[start : start + size]).hex() for start in range(0, len(data), size))
    return {"name": name, "n_bytes": len(data), "chunks": chunks}


def pack_file(
    lanes: Sequence[tuple[int, bytes]],
    *,
    version: int = 1,
    class_: int = 1,
    flags: int = 1,
    root: bytes | None = None,
) -> bytes:
    """A file of the given lanes as they are, every digest right."""
    head = b"S7LM" + struct.pack(">HBB", version, class_, flags)
    root = paired([sha(payload) for _, payload in lanes]) if root is None else root
    body = b"".join(struct.pack(">BI", i, len(payload)) + payload + sha(payload) for i, payload in lanes)
    return head + root + body


def pack_sealed(
    lanes: Sequence[tuple[int, bytes]],
    *,
    class_: int = 1,
    flags: int = 1,
    version: int = 3,
    chunk: int = CHUNK,
    records: bool = True,
    **changes: Any,
) -> bytes:
    """A file of version 3: the lanes behind a seal that lists them, FIELD by records.

    `changes` replace keys of the seal.
    """
    head = b"S7LM" + struct.pack(">HBB", version, class_, flags)
    seal: dict[str, Any] = {
        "kind": "seal",
        "header": head.hex(),
        "chunk_bytes": chunk,
        "lanes": [
            {
                "id": lane_id,
                "kind": kind_of(lane_id, payload),
                "n_bytes": len(payload),
                "sha256": sha(payload).hex(),
                "pieces": [
                    piece(name, part, chunk)
                    for name, part in (pieces_of(lane_id, payload, flags) if records else [("", payload)])
                ],
            }
            for lane_id, payload in lanes
        ],
        "parts": {},
    }
    roots = [
        merkle([bytes.fromhex(row["chunks"][i : i + 64]) for i in range(0, len(row["chunks"]), 64)])
        for lane in seal["lanes"]
        for row in lane["pieces"]
        if row["name"]
    ]
    seal["parts"] = {"trunk": merkle(roots).hex()} if roots else {}
    return pack_file([(4, canonical(seal | changes)), *lanes], version=version, class_=class_, flags=flags)


def pieces_of(lane_id: int, payload: bytes, flags: int) -> list[tuple[str, bytes]]:
    """The records of a FIELD payload by name; the whole payload where it is none, or malformed."""
    pieces, offset = [], 0
    try:
        while lane_id == 2 and offset < len(payload):
            (length,) = struct.unpack_from(">H", payload, offset)
            name = payload[offset + 2 : offset + 2 + length].decode("ascii")
            if not name:
                return [("", payload)]
            rank = payload[offset + 2 + length]
            numel = math.prod(struct.unpack_from(f">{rank}I", payload, offset + 3 + length))
            end = offset + 7 + length + 4 * rank + (-(-numel // 32) * 32 if flags & 0x80 else numel)
            pieces.append((name, payload[offset:end]))
            offset = end
    except (struct.error, IndexError, ValueError):
        return [("", payload)]
    return pieces if pieces and offset == len(payload) else [("", payload)]


def kind_of(lane_id: int, payload: bytes) -> str:
    """What kind a payload says that it is; "" where it does not say."""
    try:
        value = json.loads(payload) if lane_id in (3, 4, 5) else {}
    except (ValueError, RecursionError):
        return ""
    kind = value.get("kind", "") if isinstance(value, dict) else ""
    return kind if isinstance(kind, str) else ""


def two_tensors() -> bytes:
    """The least FIELD payload that the format allows."""
    return pack_record(b"embedding.weight", [1], 1.0, b"\1") + pack_record(b"lm_head.weight", [1], 1.0, b"\2")


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
