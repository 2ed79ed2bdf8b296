"""Read and write segments of a memory: a header, then frames, each with its own digest.

A frame is `[u8 kind][u32 length][payload][32-byte SHA-256 of all before]`, integers big-endian. The
root of a segment is the Merkle root (RFC 6962) over the digests of its frames. Reading is total:
every byte is accounted for, and an error names the frame of a changed byte. specs/memory.md,
"Segments".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sevenfold.agent.memory.chunks import SpanRange, TextSpan
from sevenfold.agent.memory.errors import DamagedMemoryError
from sevenfold.core.hashing import Json, canonical_json, digest, is_canonical, sha256
from sevenfold.core.merkle import merkle_root

MAGIC = b"S7MM\x00\x01\x00\x00"
TABLE, BLOB, ENTRY, REMOVAL = 1, 2, 3, 4
KINDS = {TABLE: "table", BLOB: "blob", ENTRY: "entry", REMOVAL: "removal"}
_HEAD, _DIGEST = 5, 32
MAX_PAYLOAD = 1 << 30

_REMEDY = "restore the memory from a copy, or index its sources again into another directory"
_BLOB_KEYS = {"blob", "language", "hint", "n_text", "n_spans", "n_chunks", "width"}
_ENTRY_KEYS = {"source", "path", "blob", "licence", "time", "trust", "git"}
_REMOVAL_KEYS = {"source", "path"}


class SegmentFrame(NamedTuple):
    """One frame of a segment, whose digest was checked."""

    kind: int
    payload: memoryview
    digest: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """A text with its spans and chunks, and a vector for each span.

    Attributes:
        id: digest of language, hint and text.
        vectors: i8 [n_spans, width].
    """

    id: str
    language: str
    hint: str
    text: bytes
    spans: NDArray[np.uint32]
    chunks: NDArray[np.uint32]
    vectors: NDArray[np.int8]


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryEntry:
    """A path of a source, and its blob.

    Attributes:
        licence: an SPDX expression; "" when it is unknown.
        time: seconds since 1970; 0 when it is unknown.
        trust: 0 to 8.
        git: the name of the object in a git repository; "" elsewhere.
    """

    source: str
    path: str
    blob: str
    licence: str
    time: int
    trust: int
    git: str


def blob_id(language: str, hint: str, text: bytes) -> str:
    """Return the digest that names a blob."""
    return digest("sevenfold/memory/blob/1", language, hint, text)


def frame_bytes(kind: int, payload: bytes) -> bytes:
    """Return the bytes of a frame."""
    head = bytes([kind]) + len(payload).to_bytes(4, "big") + payload
    return head + sha256(head)


def blob_bytes(
    name: str,
    language: str,
    hint: str,
    text: bytes,
    spans: NDArray[np.uint32],
    chunks: NDArray[np.uint32],
    vectors: bytes,
) -> bytes:
    """Return the payload of a blob frame."""
    head = canonical_json(
        {
            "blob": name,
            "language": language,
            "hint": hint,
            "n_text": len(text),
            "n_spans": len(spans),
            "n_chunks": len(chunks),
            "width": len(vectors) // len(spans),
        }
    )
    tables = spans.astype(">u4").tobytes() + chunks.astype(">u4").tobytes()
    return len(head).to_bytes(4, "big") + head + text + tables + vectors


def blob_payload(blob: Blob) -> bytes:
    """Return the payload of a blob frame, from the blob."""
    return blob_bytes(
        *(blob.id, blob.language, blob.hint, blob.text, blob.spans, blob.chunks), blob.vectors.tobytes()
    )


def entry_payload(entry: MemoryEntry) -> bytes:
    """Return the payload of an entry frame."""
    return canonical_json({name: getattr(entry, name) for name in sorted(_ENTRY_KEYS)})


def tables_of(
    spans: Iterable[TextSpan], chunks: Iterable[SpanRange]
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return u32 [n, 3] of spans (start, end, line) and of chunks (first span, end span, tokens)."""
    a = np.array([(one.start, one.end, one.line) for one in spans], np.uint32).reshape(-1, 3)
    b = np.array([(one.first, one.end, one.n_tokens) for one in chunks], np.uint32).reshape(-1, 3)
    return a, b


def segment_root(digests: Iterable[bytes]) -> str:
    """Return the hex root over the digests of the frames of a segment."""
    return merkle_root(list(digests)).hex()


def read_frames(data: bytes | memoryview, where: str) -> list[SegmentFrame]:
    """Return the frames of a segment.

    Raises:
        DamagedMemoryError: a byte was changed; the error names the frame and its offset.
    """
    view = memoryview(data)
    if bytes(view[: len(MAGIC)]) != MAGIC:
        raise damaged(where, "it does not begin as a segment of this version")
    frames: list[SegmentFrame] = []
    place = len(MAGIC)
    while place < len(view):
        name = f"frame {len(frames)} at byte {place}"
        if len(view) - place < _HEAD + _DIGEST:
            raise damaged(where, f"{name} is cut off")
        kind, length = view[place], int.from_bytes(view[place + 1 : place + _HEAD], "big")
        end = place + _HEAD + length
        if kind not in KINDS or length > MAX_PAYLOAD or end + _DIGEST > len(view):
            raise damaged(where, f"{name} has an impossible kind or length")
        stated = bytes(view[end : end + _DIGEST])
        if sha256(view[place:end]) != stated:
            raise damaged(where, f"{name} does not have its digest")
        frames.append(SegmentFrame(kind, view[place + _HEAD : end], stated))
        place = end + _DIGEST
    return frames


def damaged(where: str, what: str) -> DamagedMemoryError:
    """Return the error of a changed or truncated file."""
    return DamagedMemoryError(f"a damaged memory: {what}", where=where, remedy=_REMEDY)


def _object(payload: bytes | memoryview, keys: set[str], where: str) -> Mapping[str, Json]:
    try:
        value = json.loads(bytes(payload))
    except (ValueError, RecursionError):
        raise damaged(where, "a header that is not JSON") from None
    if not isinstance(value, dict) or value.keys() != keys or not is_canonical(value, payload):
        raise damaged(where, f"a header without exactly the keys {', '.join(sorted(keys))}")
    return value


def _typed(value: Mapping[str, Json], texts: Iterable[str], numbers: Iterable[str], where: str) -> None:
    for name in texts:
        if not isinstance(value[name], str):
            raise damaged(where, f"{name} is not a text")
    for name in numbers:
        if type(value[name]) is not int or not 0 <= value[name] < 1 << 40:
            raise damaged(where, f"{name} is not a number from 0 to 2^40")


def read_entry(payload: memoryview, where: str) -> MemoryEntry:
    """Return the entry of a payload. Raises DamagedMemoryError."""
    value = _object(payload, _ENTRY_KEYS, where)
    _typed(value, ("source", "path", "blob", "licence", "git"), ("time", "trust"), where)
    return MemoryEntry(**value)


def read_removal(payload: memoryview, where: str) -> tuple[str, str]:
    """Return the (source, path) of a payload. Raises DamagedMemoryError."""
    value = _object(payload, _REMOVAL_KEYS, where)
    _typed(value, ("source", "path"), (), where)
    return value["source"], value["path"]


def read_blob(payload: memoryview, width: int, where: str) -> Blob:
    """Return the blob of a payload. Its arrays are views.

    Raises:
        DamagedMemoryError: a length, a position or the name of the blob does not match the rest.
    """
    n_head = int.from_bytes(payload[:4], "big")
    if 4 + n_head > len(payload):
        raise damaged(where, "a blob whose header is longer than its frame")
    value = _object(payload[4 : 4 + n_head], _BLOB_KEYS, where)
    _typed(value, ("blob", "language", "hint"), ("n_text", "n_spans", "n_chunks", "width"), where)
    n_text, n_spans, n_chunks = value["n_text"], value["n_spans"], value["n_chunks"]
    sizes = (n_text, n_spans * 12, n_chunks * 12, n_spans * width)
    if value["width"] != width or 4 + n_head + sum(sizes) != len(payload):
        raise damaged(where, "a blob whose parts do not fill its frame")
    places = np.cumsum((4 + n_head, *sizes)).tolist()
    text = bytes(payload[places[0] : places[1]])
    spans = np.frombuffer(payload[places[1] : places[2]], ">u4").reshape(-1, 3).astype(np.uint32)
    chunks = np.frombuffer(payload[places[2] : places[3]], ">u4").reshape(-1, 3).astype(np.uint32)
    vectors = np.frombuffer(payload[places[3] : places[4]], np.int8).reshape(n_spans, width)
    if blob_id(value["language"], value["hint"], text) != value["blob"]:
        raise damaged(where, "a blob whose text does not match its name")
    _check_places(spans, chunks, n_text, where)
    return Blob(
        id=value["blob"],
        language=value["language"],
        hint=value["hint"],
        text=text,
        spans=spans,
        chunks=chunks,
        vectors=vectors,
    )


def _check_places(spans: NDArray[np.uint32], chunks: NDArray[np.uint32], n_text: int, where: str) -> None:
    """Refuse spans that do not partition the text, and chunks that are not runs of spans."""
    starts, ends = spans[:, 0].astype(np.int64), spans[:, 1].astype(np.int64)
    joined = np.concatenate(([0], ends))
    if not len(spans) or np.any(joined[:-1] != starts) or np.any(starts >= ends) or ends[-1] != n_text:
        raise damaged(where, "spans that do not partition their text")
    first, end = chunks[:, 0].astype(np.int64), chunks[:, 1].astype(np.int64)
    if not len(chunks) or np.any(first >= end) or np.any(end > len(spans)):
        raise damaged(where, "a chunk outside its text")
