"""Packing of artifacts by hand (struct, hashlib): every digest and the root right, whatever the parts are."""

from __future__ import annotations

import hashlib
import json
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


def pack_record(name: bytes, dims: Sequence[int], scale: float, data: bytes, padded: bool = False) -> bytes:
    tail = bytes(-len(data) % 32) if padded else b""
    head = struct.pack(">H", len(name)) + name + struct.pack(f">B{len(dims)}I", len(dims), *dims)
    return head + struct.pack(">f", scale) + data + tail


def leaf(lane_id: int, payload: bytes) -> bytes:
    return struct.pack(">BI", lane_id, len(payload)) + sha(payload)


def piece(name: str, data: bytes) -> dict[str, Any]:
    """How the seal lists a record, or a whole payload."""
    chunks = "".join(sha(data[start : start + CHUNK]).hex() for start in range(0, len(data), CHUNK))
    return {"name": name, "n_bytes": len(data), "chunks": chunks}


def pack_file(
    lanes: Sequence[tuple[int, bytes]],
    *,
    version: int = 2,
    class_: int = 1,
    flags: int = 0,
    root: bytes | None = None,
) -> bytes:
    """A file of the given lanes, every digest right."""
    head = b"S7LM" + struct.pack(">HBB", version, class_, flags)
    root = merkle([head, *(leaf(*lane) for lane in lanes)]) if root is None else root
    body = b"".join(struct.pack(">BI", i, len(payload)) + payload + sha(payload) for i, payload in lanes)
    return head + root + body


def two_tensors() -> bytes:
    """The least FIELD payload that the format allows."""
    return pack_record(b"embedding.weight", [1], 1.0, b"\1") + pack_record(b"lm_head.weight", [1], 1.0, b"\2")


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
