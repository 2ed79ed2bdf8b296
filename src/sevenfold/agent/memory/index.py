"""Add a source to a memory, and compact it.

An addition is one commit of the manifest, so a reader sees all of it or nothing. In a git
repository only changed blobs are read again. In a directory only changed texts are cut and embedded
again. Files that no longer exist are removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sevenfold.agent.memory import frames as fr
from sevenfold.agent.memory.chunks import (
    MAX_CHUNK_TOKENS,
    MIN_CHUNK_TOKENS,
    TextSpan,
    count_tokens,
    cut_chunks,
    cut_spans,
)
from sevenfold.agent.memory.chunks import Counter as TokenCounter
from sevenfold.agent.memory.embed import HashedEmbedder, learn_table
from sevenfold.agent.memory.features import Weights, path_hint, text_features
from sevenfold.agent.memory.sources import MemorySource, language_name, licence_of, refusal_of
from sevenfold.agent.memory.store import (
    MANIFEST_NAME,
    AgentMemory,
    MemoryManifest,
    MemorySettings,
    SegmentRef,
    open_memory,
    write_memory_manifest,
    write_segment,
    writing,
)
from sevenfold.core.errors import UsageError
from sevenfold.core.hashing import canonical_json

MAX_TRUST = 8
RULE = "rule"
# A segment is closed when it has this many bytes.
SEGMENT_BYTES = 64 << 20
_BATCH = 512


@dataclass(frozen=True, kw_only=True)
class Addition:
    """The settings of an addition.

    Attributes:
        licence: the licence of files that state none.
        trust: the trust in the source, 0 to 8.
        time: the time of the files; None takes that of the commit.
        counter: a function that counts tokens. Its name `counter_name` is part of the root.
    """

    licence: str = ""
    trust: int = 4
    time: int | None = None
    chunk_tokens: int = 8192
    counter: TokenCounter = count_tokens
    counter_name: str = RULE


@dataclass(kw_only=True)
class AdditionReport:
    """The result of an addition: in = added + changed + unchanged + the sum of all drops."""

    source: str
    commit: str
    root: str = ""
    n_in: int = 0
    n_added: int = 0
    n_changed: int = 0
    n_unchanged: int = 0
    n_removed: int = 0
    n_duplicates: int = 0
    n_embedded: int = 0
    n_tokens: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class _Cut:
    id: str
    language: str
    hint: str
    text: bytes
    spans: list[TextSpan]
    features: list[Weights]


def check_addition(how: Addition) -> None:
    """Refuse an addition outside the limits. Raises UsageError."""
    if not MIN_CHUNK_TOKENS <= how.chunk_tokens <= MAX_CHUNK_TOKENS:
        raise UsageError(
            f"chunks of {how.chunk_tokens} tokens",
            remedy=f"{MIN_CHUNK_TOKENS} to {MAX_CHUNK_TOKENS}",
        )
    if not 0 <= how.trust <= MAX_TRUST:
        raise UsageError(f"trust {how.trust}", remedy=f"0 to {MAX_TRUST}")
    if how.time is not None and not 0 <= how.time < 1 << 40:
        raise UsageError(f"time {how.time}", remedy="seconds since 1970")


def add_source(path: Path, source: MemorySource, how: Addition) -> AdditionReport:
    """Update a memory to what a source holds now, in one commit.

    Raises:
        UsageError: the settings are outside the limits, or differ from those of the memory.
        DamagedMemoryError: the memory is damaged; nothing is written.
        StorageError: it cannot be written; the memory is unchanged.
    """
    check_addition(how)
    settings = MemorySettings(chunk_tokens=how.chunk_tokens, counter=how.counter_name)
    with writing(path):
        memory = open_memory(path) if (path / MANIFEST_NAME).is_file() else None
        if memory is not None and memory.manifest.settings != settings:
            raise UsageError(
                f"the memory was made with {memory.manifest.settings.value()}, not {settings.value()}",
                where=str(path),
                remedy="use the same --chunk-tokens and --model, or another directory",
            )
        report, entries, cuts, removals = _compare(memory, source, how)
        embedder = memory.embedder if memory is not None else None
        frames: list[bytes] = []
        if embedder is None:
            embedder = HashedEmbedder(learn_table(one for cut in cuts for one in cut.features))
            frames.append(fr.frame_bytes(fr.TABLE, embedder.table.tobytes()))
        known = memory.manifest.segments if memory is not None else ()
        payloads = _payloads(embedder, entries, cuts, removals, how.chunk_tokens)
        refs = [*known, *_write(path, frames, payloads)] if frames or entries or removals else list(known)
        manifest = MemoryManifest(settings=settings, segments=tuple(refs))
        if memory is None or manifest != memory.manifest:
            write_memory_manifest(path, manifest)
    report.root = manifest.root
    return report


def _compare(
    memory: AgentMemory | None, source: MemorySource, how: Addition
) -> tuple[AdditionReport, list[fr.MemoryEntry], list[_Cut], list[tuple[str, str]]]:
    """Return the report, the changed entries, the new texts, and the removed paths."""
    report = AdditionReport(source=source.name, commit=source.commit, dropped=Counter(source.dropped))
    old = {} if memory is None else {k: e for k, e in memory.entries.items() if k[0] == source.name}
    known = set() if memory is None else set(memory.blobs)
    entries: list[fr.MemoryEntry] = []
    cuts: list[_Cut] = []
    kept: set[tuple[str, str]] = set()
    for file in source.files:
        key = (source.name, file.path)
        before, n_cuts = old.get(key), len(cuts)
        if before is not None and _is_same(before, file.git, how):
            entry: fr.MemoryEntry | None = before
        else:
            entry = _entry(file.read(), file.path, file.git, source, how, known, cuts, report)
        if entry is None:
            continue
        kept.add(key)
        if before is None:
            report.n_added += 1
        elif (before.blob, before.licence, before.trust) == (entry.blob, entry.licence, entry.trust):
            report.n_unchanged += 1
            continue
        else:
            report.n_changed += 1
        report.n_duplicates += len(cuts) == n_cuts and (before is None or before.blob != entry.blob)
        entries.append(entry)
    removals = sorted(old.keys() - kept)
    report.n_removed = len(removals)
    report.n_in = len(source.files) + sum(source.dropped.values())
    report.n_embedded = len(cuts)
    return report, entries, cuts, removals


def _is_same(before: fr.MemoryEntry, git: str, how: Addition) -> bool:
    """Return whether a git object need not be read, because it is the known one with the same
    settings.
    """
    known_licence = before.licence in (how.licence, "") or not how.licence
    return bool(git) and before.git == git and before.trust == how.trust and known_licence


def _entry(
    data: bytes | str,
    path: str,
    git: str,
    source: MemorySource,
    how: Addition,
    known: set[str],
    cuts: list[_Cut],
    report: AdditionReport,
) -> fr.MemoryEntry | None:
    """Return the entry of a file, and cut its text when it is new. Return None when the file is
    dropped.
    """
    why = data if isinstance(data, str) else refusal_of(data)
    if why or isinstance(data, str):
        report.dropped[why] += 1
        return None
    language, hint = language_name(path), path_hint(path).decode()
    name = fr.blob_id(language, hint, data)
    if name not in known:
        cuts.append(_cut(name, language, hint, data, how.counter))
        report.n_tokens += sum(span.n_tokens for span in cuts[-1].spans)
        known.add(name)
    return fr.MemoryEntry(
        source=source.name,
        path=path,
        blob=name,
        licence=licence_of(data, how.licence),
        time=source.time if how.time is None else how.time,
        trust=how.trust,
        git=git,
    )


def _cut(name: str, language: str, hint: str, text: bytes, counter: TokenCounter) -> _Cut:
    spans = cut_spans(text, language, counter)
    places = [(span.start, span.end) for span in spans]
    features = text_features(text, places, hint.encode())
    return _Cut(id=name, language=language, hint=hint, text=text, spans=spans, features=features)


def _payloads(
    embedder: HashedEmbedder,
    entries: Sequence[fr.MemoryEntry],
    cuts: Sequence[_Cut],
    removals: Sequence[tuple[str, str]],
    chunk_tokens: int,
) -> Iterator[tuple[int, bytes]]:
    """Yield kind and payload of each frame: removals, blobs, entries."""
    for source, path in removals:
        yield fr.REMOVAL, canonical_json({"source": source, "path": path})
    waiting: list[_Cut] = []
    n_waiting = 0
    for cut in cuts:
        waiting.append(cut)
        n_waiting += len(cut.features)
        if n_waiting >= _BATCH:
            yield from _blobs(embedder, waiting, chunk_tokens)
            waiting, n_waiting = [], 0
    if waiting:
        yield from _blobs(embedder, waiting, chunk_tokens)
    for entry in entries:
        yield fr.ENTRY, fr.entry_payload(entry)


def _blobs(embedder: HashedEmbedder, cuts: Sequence[_Cut], chunk_tokens: int) -> Iterator[tuple[int, bytes]]:
    features = [one for cut in cuts for one in cut.features]
    codes = [embedder.spans(features[i : i + _BATCH]) for i in range(0, len(features), _BATCH)]
    rows = (row for block in codes for row in block)
    for cut in cuts:
        spans, chunks = fr.tables_of(cut.spans, cut_chunks(cut.spans, chunk_tokens))
        vectors = b"".join(next(rows).tobytes() for _ in cut.spans)
        yield fr.BLOB, fr.blob_bytes(cut.id, cut.language, cut.hint, cut.text, spans, chunks, vectors)


def _write(path: Path, frames: list[bytes], payloads: Iterator[tuple[int, bytes]]) -> list[SegmentRef]:
    """Write frames as segments of bounded size. No manifest lists them yet."""
    refs: list[SegmentRef] = []
    size = sum(map(len, frames))
    for kind, payload in payloads:
        frames.append(fr.frame_bytes(kind, payload))
        size += len(frames[-1])
        if size >= SEGMENT_BYTES:
            refs.append(write_segment(path, frames))
            frames, size = [], 0
    if frames:
        refs.append(write_segment(path, frames))
    return refs


def compact(
    path: Path, *, relearn: bool = False, counter: TokenCounter = count_tokens, counter_name: str = RULE
) -> tuple[AgentMemory, int]:
    """Rewrite a memory without unused frames. Return the new memory and the number of blobs,
    entries and removals that were left out.

    The answers do not change, unless `relearn` learns the table of rarity again from all texts.

    Raises:
        UsageError: `relearn` is used with another counter than that of the memory.
    """
    with writing(path):
        memory = open_memory(path)
        if relearn and counter_name != memory.manifest.settings.counter:
            raise UsageError(
                f"the memory counts tokens by {memory.manifest.settings.counter}, not by {counter_name}",
                where=str(path),
                remedy="name its model with --model",
            )
        embedder = memory.embedder
        entries = [memory.entries[key] for key in sorted(memory.entries)]
        payloads: Iterator[tuple[int, bytes]]
        if relearn:
            cuts = [_recut(blob, counter) for _, blob in sorted(memory.blobs.items())]
            embedder = HashedEmbedder(learn_table(one for cut in cuts for one in cut.features))
            payloads = _payloads(embedder, entries, cuts, (), memory.manifest.settings.chunk_tokens)
        else:
            payloads = _as_they_are(memory, entries)
        if embedder is None:
            raise fr.damaged(str(path), "it has no table")
        frames = [fr.frame_bytes(fr.TABLE, embedder.table.tobytes())]
        refs = _write(path, frames, payloads)
        write_memory_manifest(path, MemoryManifest(settings=memory.manifest.settings, segments=tuple(refs)))
    with writing(path):  # Opening it for writing removes the segments that are no longer listed.
        return open_memory(path), memory.n_dead


def _recut(blob: fr.Blob, counter: TokenCounter) -> _Cut:
    return _cut(blob.id, blob.language, blob.hint, blob.text, counter)


def _as_they_are(memory: AgentMemory, entries: Sequence[fr.MemoryEntry]) -> Iterator[tuple[int, bytes]]:
    for _, blob in sorted(memory.blobs.items()):
        yield fr.BLOB, fr.blob_payload(blob)
    for entry in entries:
        yield fr.ENTRY, fr.entry_payload(entry)
