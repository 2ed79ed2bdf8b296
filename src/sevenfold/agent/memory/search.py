"""Search a memory: an exact scan of all vectors, and at most one hop along calls.

Every step uses integers, and the id of the chunk breaks every tie, so a root and a question
determine the answer. The order of additions does not matter. See specs/memory.md, "Search".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from sevenfold.agent.memory.embed import LENGTH_BITS, UNSEEN, HashedEmbedder
from sevenfold.agent.memory.features import (
    W_DEFINED,
    called_names,
    defined_names,
    features_of,
    names_in,
    query_features,
    scopes_of,
)
from sevenfold.agent.memory.frames import Blob, MemoryEntry, damaged
from sevenfold.agent.memory.scan import dots
from sevenfold.agent.memory.store import AgentMemory
from sevenfold.core.errors import RecipeError, UsageError
from sevenfold.core.hashing import Json, digest
from sevenfold.corpus.globs import glob_matches, glob_parts

MAX_K, MAX_HOPS = 64, 2
MAX_QUESTION_BYTES = 1 << 16
# The weights of the best three spans of a chunk.
_SHARES = (4, 2, 1)
# Trust (0 to 8) and recency (0 to 8) add at most 48/256 to a score.
_BASE, _STEP, MAX_RECENCY = 256, 3, 8
_DAY = 86400
# The number of names in a question from which a hop starts, the number of names that it follows,
# and the number of best spans in which the definition of each is sought.
_MAX_ASKED, _MAX_NAMES, _LOOKED_AT = 2, 8, 4
_FLOOR = np.int64(-(1 << 40))


@dataclass(frozen=True, kw_only=True)
class MemoryQuery:
    """A question and its filters. An empty filter accepts everything.

    Attributes:
        hops: 2 follows the calls of a definition that the question names.
        licences: SPDX expressions, spelled as in entries.
        now: the time from which recency counts; None takes the newest time of the memory.
    """

    text: str
    k: int = 6
    hops: int = 2
    paths: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    since: int = 0
    until: int = 0
    now: int | None = None


@dataclass(frozen=True, kw_only=True)
class MemoryHit:
    """One chunk of an answer, with the data for a citation.

    Attributes:
        similarity: the similarity of its best span, in per mille of the largest possible one.
        lines: the lines of the chunk; best_lines: those of its best span. Both count from 1 and are
            inclusive.
        also: other paths with the same text.
    """

    chunk: str
    hop: int
    score: int
    similarity: int
    entry: MemoryEntry
    language: str
    lines: tuple[int, int]
    best_lines: tuple[int, int]
    n_tokens: int
    also: tuple[str, ...]
    text: bytes = field(repr=False)

    def value(self, *, with_text: bool = False) -> dict[str, Json]:
        """Return the hit as JSON."""
        value: dict[str, Json] = {
            "chunk": self.chunk,
            "hop": self.hop,
            "score": self.score,
            "similarity": self.similarity,
            "source": self.entry.source,
            "path": self.entry.path,
            "blob": self.entry.blob,
            "licence": self.entry.licence,
            "time": self.entry.time,
            "trust": self.entry.trust,
            "language": self.language,
            "lines": list(self.lines),
            "best_lines": list(self.best_lines),
            "tokens": self.n_tokens,
            "also": list(self.also),
        }
        return value | ({"text": self.text.decode()} if with_text else {})


class MemorySearch:
    """A memory in a form for search: one matrix, and the chunks as runs of its rows."""

    def __init__(self, memory: AgentMemory) -> None:
        if memory.embedder is None:
            raise damaged(str(memory.path), "it has no table")
        self.memory = memory
        self.embedder: HashedEmbedder = memory.embedder
        self.blobs: list[Blob] = list(memory.blobs.values())
        self._base = np.cumsum([0, *(len(blob.spans) for blob in self.blobs)], dtype=np.int64)
        self._entries: list[list[MemoryEntry]] = [[] for _ in self.blobs]
        place = {blob.id: i for i, blob in enumerate(self.blobs)}
        for key in sorted(memory.entries):
            entry = memory.entries[key]
            self._entries[place[entry.blob]].append(entry)
        n_chunks = [len(blob.chunks) for blob in self.blobs]
        self._blob_of = np.repeat(np.arange(len(self.blobs)), n_chunks)
        self._number = np.concatenate([np.arange(n) for n in n_chunks] or [np.zeros(0, np.int64)])
        tables = [blob.chunks.astype(np.int64)[:, :2] + self._base[i] for i, blob in enumerate(self.blobs)]
        self._runs = np.concatenate(tables) if tables else np.zeros((0, 2), np.int64)
        self._newest = max((entry.time for entry in memory.entries.values()), default=0)

    def ask(self, query: MemoryQuery) -> list[MemoryHit]:
        """Return at most k chunks, the best first. Chunks of a hop come last.

        Raises:
            UsageError: the question or a filter is outside the limits.
        """
        _check(query)
        chosen = self._filtered(query)
        weights = np.array([self._weight(one, query) for one in chosen], np.int64)
        codes = self.embedder.query(query_features(query.text.encode()))
        sims = self._sims(codes)
        scores, best = self._chunk_scores(sims, weights)
        ranked = self._distinct(scores, best)
        first = [
            self._hit(c, 1, int(scores[c]), int(best[c]), _per_mille(sims[best[c]], codes), chosen)
            for c in self._take(ranked, query.k)
        ]
        if query.hops < MAX_HOPS or not first:
            return first
        room = max(query.k // 3, 1)
        have = {hit.chunk for hit in first[: query.k - room]}
        further = list(self._hop(query, have, weights, chosen, room))
        return first[: query.k - len(further)] + further

    def _filtered(self, query: MemoryQuery) -> list[MemoryEntry | None]:
        """Return one entry for each blob: of the entries that pass the filters, the most trusted,
        then the newest.
        """
        patterns = [_pattern(text) for text in query.paths]

        def wants(path: str) -> bool:
            parts = tuple(path.split("/"))
            return any(glob_matches(parts, pattern) for pattern in patterns)

        def passes(entry: MemoryEntry, blob: Blob) -> bool:
            return (
                (not patterns or wants(entry.path))
                and (not query.sources or entry.source in query.sources)
                and (not query.languages or blob.language in query.languages)
                and (not query.licences or entry.licence in query.licences)
                and entry.time >= query.since
                and (not query.until or entry.time <= query.until)
            )

        chosen: list[MemoryEntry | None] = []
        for blob, entries in zip(self.blobs, self._entries, strict=True):
            some = [entry for entry in entries if passes(entry, blob)]
            chosen.append(min(some, key=lambda e: (-e.trust, -e.time, e.source, e.path), default=None))
        return chosen

    def _weight(self, entry: MemoryEntry | None, query: MemoryQuery) -> int:
        """Return 256 plus up to 48 by trust and recency; 0 for a blob that is filtered out."""
        if entry is None:
            return 0
        now = self._newest if query.now is None else query.now
        months = max(now - entry.time, 0) // (30 * _DAY)
        recency = max(MAX_RECENCY - months.bit_length(), 0) if entry.time else 0
        return _BASE + _STEP * (entry.trust + recency)

    def _sims(self, codes: NDArray[np.int8]) -> NDArray[np.int64]:
        return dots(self.memory.vectors(), codes).astype(np.int64)

    def _chunk_scores(
        self, sims: NDArray[np.int64], weights: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the score of each chunk and its best span. A filtered chunk has the score -1."""
        first, end = self._runs[:, 0], self._runs[:, 1]
        sizes = end - first
        starts = np.cumsum(sizes) - sizes
        rows = np.arange(int(sizes.sum())) - np.repeat(starts - first, sizes)
        left = np.maximum(sims[rows], 0)
        owner = np.repeat(np.arange(len(first)), sizes)
        scores = np.zeros(len(first), np.int64)
        best = first.copy()
        for round_, share in enumerate(_SHARES if len(first) else ()):
            top = np.maximum.reduceat(left, starts)
            scores += share * np.maximum(top, 0)
            places = np.flatnonzero(left == top[owner])
            _, where = np.unique(owner[places], return_index=True)
            if round_ == 0:
                best = rows[places[where]]
            left[places[where]] = _FLOOR
        weight = weights[self._blob_of]
        return np.where(weight > 0, scores * weight, -1), best

    def _chunk_id(self, chunk: int) -> str:
        blob = self.blobs[int(self._blob_of[chunk])]
        return digest("sevenfold/memory/chunk/1", blob.id, str(int(self._number[chunk])))

    def _ranked(self, scores: NDArray[np.int64]) -> Iterator[int]:
        """Yield chunks with a positive score, the largest first. Ties are ordered by id."""
        order = np.argsort(-scores, kind="stable")
        place = 0
        while place < len(order) and scores[order[place]] > 0:
            end = place
            while end < len(order) and scores[order[end]] == scores[order[place]]:
                end += 1
            yield from sorted((int(one) for one in order[place:end]), key=self._chunk_id)
            place = end

    def _distinct(self, scores: NDArray[np.int64], best: NDArray[np.int64]) -> Iterator[int]:
        """Yield ranked chunks without those whose best span repeats that of a better chunk."""
        seen: set[bytes] = set()
        for chunk in self._ranked(scores):
            text = self._span_text(int(best[chunk]))
            if text in seen:
                continue
            seen.add(text)
            yield chunk

    @staticmethod
    def _take(ranked: Iterator[int], n: int) -> list[int]:
        return [one for one, _ in zip(ranked, range(n), strict=False)]

    def _blob_at(self, span: int) -> tuple[Blob, int]:
        """Return the blob of a row, and the index of the span in it."""
        i = int(np.searchsorted(self._base, span, side="right")) - 1
        return self.blobs[i], span - int(self._base[i])

    def _span_text(self, span: int) -> bytes:
        blob, number = self._blob_at(span)
        start, end, _ = blob.spans[number].tolist()
        return blob.text[start:end]

    def _hit(
        self,
        chunk: int,
        hop: int,
        score: int,
        best: int,
        similarity: int,
        chosen: Sequence[MemoryEntry | None],
    ) -> MemoryHit:
        i = int(self._blob_of[chunk])
        blob, entry = self.blobs[i], chosen[i]
        first, end, n_tokens = blob.chunks[int(self._number[chunk])].tolist()
        span = best - int(self._base[i])
        if entry is None:
            raise damaged(str(self.memory.path), "a chunk without an entry")
        return MemoryHit(
            chunk=self._chunk_id(chunk),
            hop=hop,
            score=score,
            similarity=similarity,
            entry=entry,
            language=blob.language,
            lines=_lines(blob, first, end),
            best_lines=_lines(blob, span, span + 1),
            n_tokens=n_tokens,
            also=tuple(f"{one.source}:{one.path}" for one in self._entries[i] if one != entry),
            text=blob.text[int(blob.spans[first][0]) : int(blob.spans[end - 1][1])],
        )

    def _hop(
        self,
        query: MemoryQuery,
        have: set[str],
        weights: NDArray[np.int64],
        chosen: Sequence[MemoryEntry | None],
        room: int,
    ) -> Iterator[MemoryHit]:
        """Yield chunks with the definitions of what the functions in the question call."""
        asked = names_in(query.text.encode())[:_MAX_ASKED]
        for name in self._called(asked, weights):
            found = self._definition_of(name, weights)
            if found is None:
                continue
            span, similarity = found
            i = int(np.searchsorted(self._base, span, side="right")) - 1
            inside = (self._runs[:, 0] <= span) & (span < self._runs[:, 1])
            chunk = int(np.flatnonzero(inside)[0])
            hit = self._hit(chunk, 2, similarity * int(weights[i]), span, similarity, chosen)
            if hit.chunk not in have:
                have.add(hit.chunk)
                yield hit
                room -= 1
            if not room:
                return

    def _definition_of(self, name: bytes, weights: NDArray[np.int64]) -> tuple[int, int] | None:
        """Return the span that defines a name and is most similar to a question for it, with its
        similarity. Return None when none of the best spans defines it.
        """
        of = features_of(name)
        wanted = {of.defined: W_DEFINED, of.used: 1} | dict.fromkeys(of.words, 1)
        codes = self.embedder.query(wanted)
        sims = self._sims(codes)
        for span in _greatest(sims, _LOOKED_AT):
            i = int(np.searchsorted(self._base, span, side="right")) - 1
            if weights[i] > 0 and name in defined_names(self._span_text(span)):
                return span, _per_mille(sims[span], codes)
        return None

    def _called(self, asked: Sequence[bytes], weights: NDArray[np.int64]) -> list[bytes]:
        """Return the names that the definitions of `asked` call, the rarest first."""
        found: dict[bytes, None] = {}
        for name in asked:
            definition = self._definition_of(name, weights)
            if definition is None:
                continue
            blob, number = self._blob_at(definition[0])
            around = scopes_of(blob.text, blob.spans[:, 0].tolist())
            for i in range(number, len(around)):
                start, end, _ = blob.spans[i].tolist()
                if i > number and name not in around[i]:
                    break
                found |= dict.fromkeys(called_names(blob.text[start:end]))
        names = [name for name in found if name not in asked]
        rare = dict(
            zip(names, self.embedder.rarity(features_of(name).defined for name in names), strict=True)
        )
        # A name that no text defines has the largest rarity.
        known = [name for name in names if rare[name] < UNSEEN]
        return sorted(known, key=lambda name: (-rare[name], name))[:_MAX_NAMES]


def _per_mille(similarity: np.int64, codes: NDArray[np.int8]) -> int:
    """Return a dot product in per mille of the largest one that a vector can have with the
    question.
    """
    length = isqrt(max(int((codes.astype(np.int64) ** 2).sum()), 1))
    return int(similarity) * 1000 // (length << LENGTH_BITS)


def _pattern(text: str) -> tuple[str, ...]:
    try:
        return glob_parts(text)
    except RecipeError:
        raise UsageError(
            f"the glob {text!r} leaves its source", remedy="use a relative one such as src/**/*.py"
        ) from None


def _greatest(sims: NDArray[np.int64], n: int) -> list[int]:
    n = min(n, len(sims))
    top = np.argpartition(-sims, n - 1)[:n] if n else np.zeros(0, np.int64)
    return sorted((int(one) for one in top), key=lambda one: (-int(sims[one]), one))


def _lines(blob: Blob, first: int, end: int) -> tuple[int, int]:
    """Return the first and the last line of spans [first, end)."""
    start, last = int(blob.spans[first][2]), int(blob.spans[end - 1][2])
    text = blob.text[int(blob.spans[end - 1][0]) : int(blob.spans[end - 1][1])]
    return start, last + max(text.rstrip(b"\n").count(b"\n"), 0)


def _check(query: MemoryQuery) -> None:
    if not 1 <= query.k <= MAX_K:
        raise UsageError(f"k is {query.k}", remedy=f"1 to {MAX_K}")
    if not 1 <= query.hops <= MAX_HOPS:
        raise UsageError(f"{query.hops} hops", remedy=f"1 to {MAX_HOPS}")
    try:
        size = len(query.text.encode())
    except UnicodeEncodeError:
        raise UsageError("the question is not UTF-8", remedy="write it in UTF-8") from None
    if not query.text.strip() or size > MAX_QUESTION_BYTES:
        raise UsageError(f"a question of {size} bytes", remedy=f"1 to {MAX_QUESTION_BYTES} bytes of text")
    if query.until and query.since > query.until:
        raise UsageError(f"the range from {query.since} until {query.until} is empty", remedy="swap the two")
