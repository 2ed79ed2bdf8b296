"""Find verbatim spans of a text in a corpus, with source, path and licence of each.

An index holds the training documents, padded to blocks, and the sorted suffixes that begin at blocks
(`corpus.suffixes`). It is built once for a corpus. Its manifest is written last, so an index that was
interrupted is built again. A document that is named is hashed again, so it is the corpus' own.

Cost: 1.25 bytes on disk for each byte of text. A query reads a few pages of the index.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.documents import read_documents, read_rows
from sevenfold.core.errors import StorageError, UsageError, storage
from sevenfold.core.files import atomic_writer, read_json, remove_partials, write_bytes, write_json
from sevenfold.core.hashing import Json, sha256
from sevenfold.core.manifest import output_root, read_manifest
from sevenfold.core.process.log import Progress
from sevenfold.core.run_files import LEDGER, MANIFEST, SPANS, TRAIN_DOCUMENTS
from sevenfold.corpus.ledger import LEDGER_COLUMNS
from sevenfold.corpus.suffixes import BLOCK, sorted_suffixes

FORMAT = 1
# Spans shorter than this may begin and end inside two blocks, and are not found.
MIN_SPAN = 2 * BLOCK - 1
DEFAULT_SPAN = 50
MAX_QUERY = 1 << 16
# Bytes by which suffixes are compared with a text; longer matches are extended afterwards.
_MOST_COMPARED = 4096
# Occurrences of a span whose beginning is looked at.
_MOST_OCCURRENCES = 256
# Different bytes that a span has at least: a rule of dashes or blanks is nobody's.
_LEAST_DISTINCT = 8
_TEXT, _ORDER, _STARTS, _ROWS, _LINES = "text.bin", "order.u32", "starts.i64", "documents.jsonl", "lines.i64"


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of a text that stands in the corpus: bytes `start` up to `end` of the text, and where."""

    start: int
    end: int
    source: str
    path: str
    line: int
    licence: str
    document: str

    def facts(self) -> dict[str, Json]:
        """Return the span as JSON."""
        return asdict(self)


def _corpus_folder(run: Path) -> tuple[Path, str]:
    """Return the corpus stage below a run directory, or the stage itself, and its root."""
    folder = run / "corpus" if (run / "corpus").is_dir() else run
    manifest = read_manifest(folder) if folder.is_dir() else None
    if manifest is None or manifest.stage != "corpus":
        raise StorageError(
            "no finished corpus", where=str(folder), remedy="name a run directory of `s7 corpus` or `s7 make`"
        )
    return folder, output_root(manifest.outputs)


def open_spans(run: Path, index: Path | None, progress: Progress) -> SpanIndex:
    """Return the index of a run's corpus, built where there is none.

    Args:
        index: directory of the index; None is `spans/` in the run directory.

    Raises:
        StorageError: there is no finished corpus, or the index cannot be written.
    """
    folder, root = _corpus_folder(run)
    place = index or folder.parent / SPANS
    if _manifest_of(place, root) is None:
        _build(folder, root, place, progress)
    return SpanIndex(place, root)


def _manifest_of(place: Path, root: str) -> Json | None:
    """Return the manifest of a whole index of this corpus, or None."""
    if not (place / MANIFEST).is_file():
        return None
    found = read_json(place / MANIFEST)
    if not isinstance(found, dict) or (found.get("spans"), found.get("corpus")) != (FORMAT, root):
        return None
    sizes = {path.name: path.stat().st_size for path in place.iterdir() if path.name != MANIFEST}
    return found if found.get("sizes") == {name: sizes.get(name) for name in found["sizes"]} else None


def _build(folder: Path, root: str, place: Path, progress: Progress) -> None:
    with storage(place):
        place.mkdir(parents=True, exist_ok=True)
        (place / MANIFEST).unlink(missing_ok=True)
    remove_partials(place)
    starts, lines = _write_documents(folder, place, progress)
    write_bytes(place / _STARTS, np.array(starts, "<i8").tobytes())
    write_bytes(place / _LINES, np.array(lines, "<i8").tobytes())
    progress.note("spans: sorting suffixes")
    text = np.memmap(place / _TEXT, np.uint8, "r") if starts[-1] else np.zeros(0, np.uint8)
    order = sorted_suffixes(text) if len(text) else np.zeros(0, np.uint32)
    write_bytes(place / _ORDER, order.astype("<u4").tobytes())
    names = (_TEXT, _ORDER, _STARTS, _ROWS, _LINES)
    sizes = {name: (place / name).stat().st_size for name in names}
    write_json(place / MANIFEST, {"spans": FORMAT, "corpus": root, "sizes": sizes})


def _write_documents(folder: Path, place: Path, progress: Progress) -> tuple[list[int], list[int]]:
    """Write the texts and the rows; return where each begins, and where the last one ends."""
    licences = _licences(folder)
    starts, lines = [0], [0]
    progress.start("spans", None, "documents")
    with atomic_writer(place / _TEXT) as texts, atomic_writer(place / _ROWS) as rows:
        for n, document in enumerate(read_documents(folder / TRAIN_DOCUMENTS)):
            data = document.text.encode()
            # At least one zero byte parts two documents.
            n_padding = BLOCK - len(data) % BLOCK
            texts.write(data + bytes(n_padding))
            licence = licences.get((document.source, document.path), "")
            row = [document.id, document.source, document.path, licence, len(data)]
            line = json.dumps(row, ensure_ascii=True).encode() + b"\n"
            rows.write(line)
            starts.append(starts[-1] + len(data) + n_padding)
            lines.append(lines[-1] + len(line))
            if n % 1000 == 0:
                progress.advance(n)
    return starts, lines


def _licences(folder: Path) -> dict[tuple[str, str], str]:
    places = [list(LEDGER_COLUMNS).index(name) for name in ("source", "path", "licence", "split")]
    found = {}
    for row in read_rows(folder / LEDGER, LEDGER_COLUMNS):
        source, path, licence, split = (row[place] for place in places)
        if split == "train":
            found[source, path] = licence
    return found


class SpanIndex:
    """An index, opened. Nothing is read but what a query needs.

    Attributes:
        root: that of the corpus.
        n_bytes: of the texts, with their padding.
    """

    def __init__(self, place: Path, root: str) -> None:
        self.root = root
        self._place = place
        self._starts = np.fromfile(place / _STARTS, "<i8")
        self._lines = np.fromfile(place / _LINES, "<i8")
        self.n_bytes = int(self._starts[-1])
        self._text: mmap.mmap | bytes = b""
        self._order: NDArray[np.uint32] = np.zeros(0, np.uint32)
        if self.n_bytes:
            with storage(place), (place / _TEXT).open("rb") as file:
                self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._order = np.memmap(place / _ORDER, "<u4", "r")

    def find(self, text: bytes, least: int = DEFAULT_SPAN) -> list[Span]:
        """Return the longest spans of at least `least` bytes, none within another, from left to
        right.

        A span that stands in the corpus is covered by one of them, but for at most BLOCK - 1 bytes at
        its beginning.

        Raises:
            UsageError: `least` is below MIN_SPAN, or the text has more than MAX_QUERY bytes.
            StorageError: a document is not the corpus' own: the index was altered.
        """
        if least < MIN_SPAN:
            raise UsageError(f"spans of {least} bytes", remedy=f"ask for {MIN_SPAN} or more")
        if len(text) > MAX_QUERY:
            raise UsageError(f"a text of {len(text)} bytes", remedy=f"give at most {MAX_QUERY}, in parts")
        found: list[Span] = []
        for start, end, at in self._matches(text, least):
            while found and start <= found[-1].start:
                found.pop()
            found.append(self._span(start, end, at))
        return found

    def _matches(self, text: bytes, least: int) -> Iterator[tuple[int, int, int]]:
        """Yield (start, end, place in the corpus) of spans that reach further than those before."""
        reached = 0
        for begin in range(len(text) - BLOCK + 1):
            place, length = self._longest(text, begin)
            if length < BLOCK or begin + length <= reached:
                continue
            at, before = self._beginning(text, begin, place, length)
            start, end = begin - before, begin + length
            if end - start >= least and len(set(text[start:end])) >= _LEAST_DISTINCT:
                reached = end
                yield start, end, at - before

    def _longest(self, text: bytes, begin: int) -> tuple[int, int]:
        """Return the place in the order of the suffix that agrees longest with text[begin:], and how
        long.
        """
        tail = text[begin : begin + _MOST_COMPARED]
        low, high = 0, len(self._order)
        while low < high:
            middle = (low + high) // 2
            at = int(self._order[middle]) * BLOCK
            if self._text[at : at + len(tail)] < tail:
                low = middle + 1
            else:
                high = middle
        beside = [place for place in (low - 1, low) if 0 <= place < len(self._order)]
        lengths = [self._agreement(text, begin, int(self._order[place]) * BLOCK) for place in beside]
        best = max(range(len(beside)), key=lengths.__getitem__, default=-1)
        return (beside[best], lengths[best]) if best >= 0 else (0, 0)

    def _agreement(self, text: bytes, begin: int, at: int) -> int:
        """Return how many bytes of text[begin:] stand at `at`, within one document."""
        most = min(len(text) - begin, self._end_of(at) - at)
        mine = np.frombuffer(text, np.uint8, most, begin) if most > 0 else np.zeros(0, np.uint8)
        theirs = np.frombuffer(self._text, np.uint8, len(mine), at) if len(mine) else mine
        differs = np.flatnonzero(mine != theirs)
        return int(differs[0]) if len(differs) else len(mine)

    def _end_of(self, at: int) -> int:
        """Return where the document that holds `at` ends, its padding included."""
        return int(self._starts[int(np.searchsorted(self._starts, at, side="right"))])

    def _beginning(self, text: bytes, begin: int, place: int, length: int) -> tuple[int, int]:
        """Return, of the occurrences that agree as long, the one that begins first: where, and by how
        many bytes before `begin`.
        """
        best = (int(self._order[place]) * BLOCK, -1)
        for step in (1, -1):
            for other in range(place if step == 1 else place - 1, place + step * _MOST_OCCURRENCES, step):
                if not 0 <= other < len(self._order):
                    break
                at = int(self._order[other]) * BLOCK
                if self._agreement(text, begin, at) < length:
                    break
                first = int(self._starts[int(np.searchsorted(self._starts, at, side="right")) - 1])
                most = min(begin, at - first, BLOCK - 1)
                before = next((n for n in range(most) if text[begin - n - 1] != self._text[at - n - 1]), most)
                best = max(best, (at, before), key=lambda one: (one[1], -one[0]))
        return best[0], max(best[1], 0)

    def _span(self, start: int, end: int, at: int) -> Span:
        number = int(np.searchsorted(self._starts, at, side="right")) - 1
        first = int(self._starts[number])
        with storage(self._place), (self._place / _ROWS).open("rb") as file:
            file.seek(int(self._lines[number]))
            line = file.read(int(self._lines[number + 1] - self._lines[number]))
        try:
            name, source, path, licence, n_bytes = json.loads(line)
            data = bytes(self._text[first : first + n_bytes])
            is_own = sha256(data).hex() == name
        except (ValueError, TypeError) as error:
            raise self._damaged() from error
        if not is_own:
            raise self._damaged()
        # The padding is no part of the document.
        return Span(
            start=start,
            end=min(end, start + first + n_bytes - at),
            source=source,
            path=path,
            line=data[: at - first].count(b"\n") + 1,
            licence=licence,
            document=name,
        )

    def _damaged(self) -> StorageError:
        return StorageError(
            "the index of spans was altered",
            where=str(self._place),
            remedy="remove the directory; it is made again",
        )
