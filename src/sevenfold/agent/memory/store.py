"""Store a memory on disk: segments that never change, and a manifest that a rename replaces.

A writer writes a complete segment under a temporary name, syncs it, renames it, and then renames
the manifest that lists it. After a kill or with a full disk the earlier manifest is still there,
and so is the earlier memory. The next writer removes segments that no manifest lists. Only one
writer at a time holds the lock. See specs/memory.md, "Manifest".
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sevenfold.agent.memory import frames as fr
from sevenfold.agent.memory.embed import BUCKETS, WIDTH, HashedEmbedder
from sevenfold.agent.memory.errors import DamagedMemoryError, ForeignMemoryError, NoMemoryError
from sevenfold.agent.memory.features import text_features
from sevenfold.agent.memory.scan import engine_name
from sevenfold.core.errors import StorageError, storage
from sevenfold.core.files import atomic_writer, read_bytes, remove_partials, write_bytes
from sevenfold.core.hashing import Json, canonical_json, digest, is_canonical, sha256
from sevenfold.core.merkle import merkle_root

FORMAT = 1
MANIFEST_NAME, LOCK_NAME, SEGMENTS = "memory.json", "memory.lock", "segments"
SUFFIX = ".s7m"
_KEYS = {"format", "settings", "segments", "root", "digest"}
_SEGMENT_KEYS = {"file", "n_bytes", "n_frames", "root"}
_FILE, _ROOT = re.compile(r"[0-9a-f]{32}\.s7m"), re.compile(r"[0-9a-f]{64}")
# A reader that runs during a compaction reads the manifest once more.
_TRIES = 5


@dataclass(frozen=True, kw_only=True)
class MemorySettings:
    """The settings that decide cuts and vectors. The root binds them.

    Attributes:
        counter: "rule", or "tokenizer:" followed by the digest of a tokenizer.
    """

    chunk_tokens: int
    counter: str
    embedder: str = "hashed-1"
    width: int = WIDTH

    def value(self) -> dict[str, Json]:
        """Return the settings in the form of the manifest."""
        return {
            "chunk_tokens": self.chunk_tokens,
            "counter": self.counter,
            "embedder": self.embedder,
            "width": self.width,
        }


@dataclass(frozen=True, kw_only=True)
class SegmentRef:
    """One segment in a manifest."""

    file: str
    n_bytes: int
    n_frames: int
    root: str


@dataclass(frozen=True, kw_only=True)
class MemoryManifest:
    """The manifest of a memory."""

    settings: MemorySettings
    segments: tuple[SegmentRef, ...]

    @property
    def root(self) -> str:
        """Return the hex root over the settings and the roots of the segments."""
        head = canonical_json({"format": FORMAT, "settings": self.settings.value()})
        return merkle_root([head, *(bytes.fromhex(one.root) for one in self.segments)]).hex()


@dataclass(kw_only=True)
class AgentMemory:
    """A memory in main memory, of which every byte was checked.

    Attributes:
        blobs: from id to blob, in the order of the segments; only blobs that an entry names.
        entries: from (source, path) to entry.
        places: from the id of a blob or (source, path) to (segment, frame), for proofs.
        digests: for each segment, the digests of its frames.
    """

    path: Path
    manifest: MemoryManifest
    embedder: HashedEmbedder | None
    blobs: dict[str, fr.Blob]
    entries: dict[tuple[str, str], fr.MemoryEntry]
    places: dict[str | tuple[str, str], tuple[int, int]]
    digests: list[list[bytes]]
    n_dead: int = 0
    _vectors: NDArray[np.int8] | None = field(default=None, repr=False)

    def vectors(self) -> NDArray[np.int8]:
        """Return i8 [spans of all blobs, width], contiguous."""
        if self._vectors is None:
            width = self.manifest.settings.width
            rows = [blob.vectors for blob in self.blobs.values()]
            self._vectors = np.concatenate(rows) if rows else np.zeros((0, width), np.int8)
        return self._vectors


def read_memory_manifest(path: Path) -> MemoryManifest:
    """Return the manifest of the memory in a directory.

    Raises:
        NoMemoryError: none is there.
        DamagedMemoryError: it has another version, or was changed.
    """
    file = path / MANIFEST_NAME
    if not file.is_file():
        raise NoMemoryError(
            "there is no memory here", where=str(path), remedy="make one with `s7 memory add DIR SOURCE`"
        )
    data = read_bytes(file)
    if data[-1:] != b"\n":
        raise fr.damaged(str(file), "the manifest is cut off")
    try:
        raw = json.loads(data)
        if raw.keys() != _KEYS or raw["format"] != FORMAT or not is_canonical(raw, data.removesuffix(b"\n")):
            raise ValueError("it is not a canonical manifest of this version")
        stated = raw.pop("digest")
        if stated != _manifest_digest(raw):
            raise ValueError("it does not have its digest")
        settings = MemorySettings(**raw["settings"])
        for one in raw["segments"]:
            if not _FILE.fullmatch(one["file"]) or not _ROOT.fullmatch(one["root"]):
                raise ValueError(f"{str(one['file'])[:80]!r} is not a segment name")
        segments = tuple(SegmentRef(**one) for one in raw["segments"] if one.keys() == _SEGMENT_KEYS)
        manifest = MemoryManifest(settings=settings, segments=segments)
        if len(segments) != len(raw["segments"]) or manifest.root != raw["root"]:
            raise ValueError("its root is not that of its segments")
        if settings.width != WIDTH or settings.embedder != HashedEmbedder.name:
            raise ValueError(f"embedder {settings.embedder!r} is not known to this version")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise fr.damaged(str(file), f"the manifest cannot be used: {error}") from error
    return manifest


def _manifest_digest(value: Json) -> str:
    return digest("sevenfold/memory/manifest/1", canonical_json(value))


def open_memory(path: Path, expected_root: str = "") -> AgentMemory:
    """Read and check the memory in a directory.

    Raises:
        NoMemoryError: none is there.
        DamagedMemoryError: a byte was changed; the error names the file, the frame and the offset.
        ForeignMemoryError: its root is not `expected_root`.
    """
    for _ in range(_TRIES):
        manifest = read_memory_manifest(path)
        if expected_root and manifest.root != expected_root:
            raise ForeignMemoryError(
                f"the memory has the root {manifest.root}, but {expected_root} is expected",
                where=str(path),
                remedy="name the directory of that memory, or the root that `s7 memory stats` prints",
            )
        try:
            return _load(path, manifest)
        except FileNotFoundError as error:
            # A compaction may have replaced what the manifest listed.
            missing = error
    raise DamagedMemoryError(
        "a damaged memory: the manifest lists a segment that is missing",
        where=str(missing.filename),
        remedy="restore the memory from a copy, or index its sources again into another directory",
    )


def _load(path: Path, manifest: MemoryManifest) -> AgentMemory:
    memory = AgentMemory(
        path=path, manifest=manifest, embedder=None, blobs={}, entries={}, places={}, digests=[]
    )
    blobs: dict[str, fr.Blob] = {}
    for number, ref in enumerate(manifest.segments):
        file = path / SEGMENTS / ref.file
        found = read_segment(file, ref)
        memory.digests.append([frame.digest for frame in found])
        for index, frame in enumerate(found):
            where = f"{file}, frame {index}"
            _take(memory, blobs, frame, (number, index), where)
    used = {entry.blob for entry in memory.entries.values()}
    if missing := used - blobs.keys():
        raise fr.damaged(str(path), f"an entry names the blob {min(missing)}, which is missing")
    memory.blobs = {name: blob for name, blob in blobs.items() if name in used}
    memory.n_dead += len(blobs) - len(memory.blobs)
    return memory


def read_segment(file: Path, ref: SegmentRef) -> list[fr.SegmentFrame]:
    """Return the frames of a segment that a manifest lists.

    Raises:
        FileNotFoundError: the segment is missing.
        DamagedMemoryError: it differs from the listed one.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise fr.damaged(str(file), f"it cannot be read: {error.strerror}") from error
    if len(data) != ref.n_bytes:
        raise fr.damaged(str(file), f"{len(data)} bytes, {ref.n_bytes} were written")
    found = fr.read_frames(data, str(file))
    if len(found) != ref.n_frames or fr.segment_root(one.digest for one in found) != ref.root:
        raise fr.damaged(str(file), "its frames are those of another segment")
    return found


def _take(
    memory: AgentMemory, blobs: dict[str, fr.Blob], frame: fr.SegmentFrame, place: tuple[int, int], where: str
) -> None:
    """Apply one frame: later entries replace earlier ones."""
    if frame.kind == fr.TABLE:
        if place != (0, 0) or len(frame.payload) != BUCKETS:
            raise fr.damaged(where, "a table that is not the first frame, or has another size")
        memory.embedder = HashedEmbedder(np.frombuffer(frame.payload, np.uint8))
    elif place == (0, 0):
        raise fr.damaged(where, "the first frame is not a table")
    elif frame.kind == fr.BLOB:
        blob = fr.read_blob(frame.payload, memory.manifest.settings.width, where)
        blobs[blob.id] = blob
        memory.places[blob.id] = place
    elif frame.kind == fr.ENTRY:
        entry = fr.read_entry(frame.payload, where)
        key = (entry.source, entry.path)
        memory.n_dead += key in memory.entries
        memory.entries[key] = entry
        memory.places[key] = place
    else:
        key = fr.read_removal(frame.payload, where)
        if memory.entries.pop(key, None) is None:
            raise fr.damaged(where, f"it removes {key[1]!r} of {key[0]!r}, which is not there")
        memory.n_dead += 2


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Hold the lock of a memory, and remove the files of an interrupted writer.

    Raises:
        NoMemoryError: the directory holds something else.
        StorageError: another process writes, or the directory cannot be written.
    """
    with storage(path):
        if path.exists() and not path.is_dir():
            raise NoMemoryError("it is a file", where=str(path), remedy="name a directory")
        ours = {MANIFEST_NAME, LOCK_NAME, SEGMENTS}
        if path.is_dir() and not (path / LOCK_NAME).is_file():
            names = sorted(child.name for child in path.iterdir() if child.name not in ours)
            if names or (any(path.iterdir()) and not (path / MANIFEST_NAME).is_file()):
                raise NoMemoryError(
                    f"the directory holds something else ({names[0] if names else SEGMENTS})",
                    where=str(path),
                    remedy="name an empty or a new directory",
                )
        (path / SEGMENTS).mkdir(parents=True, exist_ok=True)
        handle = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(
                "another process is writing this memory", where=str(path), remedy="wait for it"
            ) from error
        _clean(path)
        yield
    finally:
        os.close(handle)


def _clean(path: Path) -> None:
    """Remove partial files, and segments that no manifest lists."""
    remove_partials(path)
    remove_partials(path / SEGMENTS)
    listed: set[str] = set()
    if (path / MANIFEST_NAME).is_file():
        listed = {one.file for one in read_memory_manifest(path).segments}
    for file in (path / SEGMENTS).glob(f"*{SUFFIX}"):
        if file.name not in listed:
            file.unlink(missing_ok=True)


def write_segment(path: Path, frames: Sequence[bytes]) -> SegmentRef:
    """Write a segment and return its line of the manifest. Raises StorageError."""
    digests = [one[-32:] for one in frames]
    root = fr.segment_root(digests)
    name = f"{root[:32]}{SUFFIX}"
    with atomic_writer(path / SEGMENTS / name) as file:
        file.write(fr.MAGIC)
        for one in frames:
            file.write(one)
    n_bytes = len(fr.MAGIC) + sum(map(len, frames))
    return SegmentRef(file=name, n_bytes=n_bytes, n_frames=len(frames), root=root)


def write_memory_manifest(path: Path, manifest: MemoryManifest) -> None:
    """Replace the manifest. The segments that it lists must be on disk. Raises StorageError."""
    value: Mapping[str, Json] = {
        "format": FORMAT,
        "settings": manifest.settings.value(),
        "segments": [
            {"file": one.file, "n_bytes": one.n_bytes, "n_frames": one.n_frames, "root": one.root}
            for one in manifest.segments
        ],
        "root": manifest.root,
    }
    write_bytes(path / MANIFEST_NAME, canonical_json({**value, "digest": _manifest_digest(value)}) + b"\n")


def table_digest(embedder: HashedEmbedder) -> str:
    """Return the hex SHA-256 of the table of rarity."""
    return sha256(embedder.table.tobytes()).hex()


def figures(memory: AgentMemory) -> dict[str, Json]:
    """Return the contents of a memory in figures, as JSON."""
    entries = memory.entries.values()
    blobs = memory.blobs.values()
    return {
        "root": memory.manifest.root,
        "chunk_tokens": memory.manifest.settings.chunk_tokens,
        "counter": memory.manifest.settings.counter,
        "embedder": memory.manifest.settings.embedder,
        "table": "" if memory.embedder is None else table_digest(memory.embedder),
        "scan": engine_name(),
        "files": len(memory.entries),
        "texts": len(memory.blobs),
        "chunks": sum(len(blob.chunks) for blob in blobs),
        "vectors": sum(len(blob.spans) for blob in blobs),
        "bytes_of_text": sum(len(blob.text) for blob in blobs),
        "bytes_on_disk": sum(one.n_bytes for one in memory.manifest.segments),
        "segments": len(memory.manifest.segments),
        "unused_frames": memory.n_dead,
        "sources": dict(sorted(Counter(entry.source for entry in entries).items())),
        "languages": dict(sorted(Counter(memory.blobs[entry.blob].language for entry in entries).items())),
        "licences": dict(sorted(Counter(entry.licence for entry in entries).items())),
    }


def check_vectors(memory: AgentMemory) -> int:
    """Compute every vector again from its text, and return the number of vectors.

    Raises:
        DamagedMemoryError: one differs.
    """
    if memory.embedder is None:
        raise fr.damaged(str(memory.path), "it has no table")
    n = 0
    for blob in memory.blobs.values():
        places = [(start, end) for start, end, _ in blob.spans.tolist()]
        made = memory.embedder.spans(text_features(blob.text, places, blob.hint.encode()))
        if not np.array_equal(made, blob.vectors):
            span = int(np.flatnonzero(np.any(made != blob.vectors, axis=1))[0])
            raise fr.damaged(
                str(memory.path), f"the vector of span {span} of the text {blob.id} is not that of its text"
            )
        n += len(made)
    return n
