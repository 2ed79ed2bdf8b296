"""Figures of a memory, and the check that its vectors are those of its texts."""

from __future__ import annotations

from collections import Counter

import numpy as np

from sevenfold.agent.memory.features import text_features
from sevenfold.agent.memory.frames import damaged
from sevenfold.agent.memory.scan import engine_name
from sevenfold.agent.memory.store import Memory, table_digest
from sevenfold.core.hashing import Json


def figures(memory: Memory) -> dict[str, Json]:
    """Return what a memory holds, as JSON."""
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


def check_vectors(memory: Memory) -> int:
    """Make every vector again from its text, and return how many there are.

    Raises:
        DamagedMemoryError: one differs.
    """
    if memory.embedder is None:
        raise damaged(str(memory.path), "it has no table")
    n = 0
    for blob in memory.blobs.values():
        places = [(start, end) for start, end, _ in blob.spans.tolist()]
        made = memory.embedder.spans(text_features(blob.text, places, blob.hint.encode()))
        if not np.array_equal(made, blob.vectors):
            span = int(np.flatnonzero(np.any(made != blob.vectors, axis=1))[0])
            raise damaged(
                str(memory.path), f"the vector of span {span} of the text {blob.id} is not that of its text"
            )
        n += len(made)
    return n
