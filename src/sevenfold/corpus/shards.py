"""Process the corpus in shards: numbered sets of files on disk, each made by the steps from some
documents.

Any process may make a shard, in any order. A shard is five files named by its number. `.json` is
written last, and a shard without it counts as absent. It holds the key of the shard, a digest of
everything that decides its bytes. A resumed run uses the shards whose key still matches, and no
others. It also holds the hash of each file and a digest of itself, so a shard whose bytes changed
between two runs is made again.

    .texts    for each kept document: its path, then its text
    .index    NumPy array of INDEX: the positions of those, and their ids
    .bands    NumPy u64[B, D]: keys for near duplicates, when the recipe asks for them
    .rows     JSON: ledger rows of all documents; duplicates and splits are not known yet
    .json     key, names that the index refers to, findings, hashes

Memory: the documents of one shard, and one batch of shingles.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sevenfold.core.errors import storage
from sevenfold.core.files import atomic_writer, read_bytes, write_bytes, write_json
from sevenfold.core.hashing import Json, canonical_json, digest, sha256, sha256_file
from sevenfold.corpus import minhash
from sevenfold.corpus.document import SourceDocument
from sevenfold.corpus.ledger import LedgerRow, Reason
from sevenfold.corpus.licences import Judgement
from sevenfold.corpus.steps.table import apply, switched_on, tool_versions
from sevenfold.corpus.steps.working_document import StepFinding, StepSettings, WorkingDocument
from sevenfold.corpus.text.contamination_index import ContaminationIndex, read
from sevenfold.corpus.text.ngrams import ngram_hashes, unique
from sevenfold.recipe.corpus_schema import CorpusSpec

PART_BYTES = 16 << 20
PART_DOCUMENTS = 4096
# Number of shingles given to MinHash at a time.
_SHINGLE_BATCH = 1 << 20
# Bytes of texts that are joined before they are written.
_TEXTS_AT_A_TIME = 64
# Version 2: rows are JSON.
FORMAT = 2

INDEX = np.dtype(
    [
        # SHA-256 of the text.
        ("id", ">u8", (4,)),
        # Position of the path in .texts.
        ("offset", "<i8"),
        ("n_path", "<i4"),
        # Length of the text, which follows the path.
        ("n_bytes", "<i8"),
        # Number of bytes by which the text is shorter than the source document.
        ("n_redacted", "<i8"),
        # Row in .rows.
        ("row", "<i4"),
        # Position in `sources` of .json.
        ("source", "<i4"),
        # Position in `domains` of .json.
        ("domain", "<i4"),
    ]
)


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """The input of one shard, complete for any process. `base` is the directory of the recipe."""

    number: int
    key: str
    directory: Path
    base: Path
    spec: CorpusSpec
    documents: tuple[tuple[SourceDocument, Judgement], ...]

    @property
    def stem(self) -> Path:
        """Return the path of the files of the shard, without their suffixes."""
        return shard_stem(self.directory, self.number)


def shard_stem(directory: Path, number: int) -> Path:
    """Return the path of the files of a shard, without their suffixes."""
    return directory / f"{number:06d}"


def cut(
    documents: Iterable[tuple[SourceDocument, Judgement]], spec: CorpusSpec, base: Path, directory: Path
) -> Iterator[ShardTask]:
    """Yield the documents in canonical order, cut into tasks of at most PART_BYTES (or one
    document) and PART_DOCUMENTS.
    """
    settled = _settled(spec)
    number, n_bytes = 0, 0
    taken: list[tuple[SourceDocument, Judgement]] = []

    def task() -> ShardTask:
        key = digest("sevenfold/part/1", settled, *(part for item in taken for part in _identity(*item)))
        return ShardTask(
            number=number, key=key, directory=directory, base=base, spec=spec, documents=tuple(taken)
        )

    for found, judgement in documents:
        size = len(found.data or b"")
        if taken and (n_bytes + size > PART_BYTES or len(taken) >= PART_DOCUMENTS):
            yield task()
            number, n_bytes, taken = number + 1, 0, []
        taken.append((found, judgement))
        n_bytes += size
    if taken:
        yield task()


def _settled(spec: CorpusSpec) -> bytes:
    """Return what decides about every document: the rules of the recipe, and the versions of steps
    and libraries.
    """
    # Which documents are read, who trains on them, and how all of them are split.
    decided_later = {"sources", "mix", "holdout"}
    rules = {name: value for name, value in spec.model_dump(mode="json").items() if name not in decided_later}
    steps = [f"{step.name}/{step.version}" for step in switched_on(spec.steps)]
    return canonical_json([FORMAT, rules, steps, tool_versions(spec.steps)])


def _identity(found: SourceDocument, judgement: Judgement) -> tuple[str, ...]:
    origin = found.origin
    names = (origin.source, origin.version, judgement.spdx, judgement.reason or "", origin.licence_evidence)
    return (*names, origin.domain, found.path, found.sha256, str(found.n_bytes), found.problem or "")


def is_made(task: ShardTask, note: Callable[[str], None] = lambda _text: None) -> bool:
    """Return whether an earlier run made this shard and all of its bytes are still there. `note`
    receives a message when they are not.
    """
    path = task.stem.with_suffix(".json")
    if not path.is_file():
        return False
    try:
        value = json.loads(read_bytes(path))
        sealed = value.pop("sha256")
        if value["key"] != task.key:
            return False
        if sealed != _seal(value):
            raise ValueError(path.name)
        for suffix, expected in value["files"].items():
            file = task.stem.with_suffix(suffix)
            if not file.is_file() or sha256_file(file) != expected:
                raise ValueError(file.name)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        note(f"corpus: part {task.stem.name} is damaged and is made again")
        return False
    return True


def _seal(value: Json) -> str:
    return digest("sevenfold/part-seal/1", canonical_json(value))


def remove_all(directory: Path) -> None:
    """Remove a directory of shards. An interrupted removal leaves no incomplete shard that counts
    as present.
    """
    with storage(directory):
        for marker in directory.glob("*.json"):
            marker.unlink()
        shutil.rmtree(directory)


def make_shard(task: ShardTask) -> None:
    """Make the files of a shard, with `.json` last.

    Raises:
        StorageError: a file cannot be written, or the hashes of evaluation sets cannot be read.
        UsageError: a library is missing.
    """
    spec = task.spec
    steps, settings = switched_on(spec.steps), _settings(spec, task.base)
    part, bands = _Part(), _Bands()
    for found, judgement in task.documents:
        reason: Reason | None = found.problem or judgement.reason
        text = WorkingDocument(found, found.data or b"", found.language, found.origin.domain)
        if reason is None and found.data is None:
            reason = "unreadable"
        reason = reason or apply(text, steps, settings)
        part.add(text, judgement, reason)
        if reason is None and spec.steps.near_duplicates:
            bands.add(_shingles(text.words_W, spec.steps.near_duplicates.shingle))
    stem = task.stem
    if spec.steps.near_duplicates:
        _write_array(stem.with_suffix(".bands"), bands.all())
    part.write(stem, task.key)


def _settings(spec: CorpusSpec, base: Path) -> StepSettings:
    wanted = spec.steps.decontaminate
    hashes = _eval_hashes(base / wanted.path, wanted.sha256) if wanted else None
    return StepSettings(spec.steps, spec.min_bytes, hashes)


@cache
def _eval_hashes(path: Path, sha: str) -> ContaminationIndex:
    return read(path, sha)


def _shingles(words: np.ndarray, n: int) -> np.ndarray:
    return unique(ngram_hashes(words, max(1, min(n, len(words)))))


class _Bands:
    """The band keys of the documents of a shard. It holds only one batch of shingles."""

    def __init__(self) -> None:
        self._batches: list[np.ndarray] = []
        self._sets: list[np.ndarray] = []
        self._n_shingles = 0

    def add(self, shingles: np.ndarray) -> None:
        """Add the bands of the next document."""
        self._sets.append(shingles)
        self._n_shingles += len(shingles)
        if self._n_shingles >= _SHINGLE_BATCH:
            self._sketch()

    def _sketch(self) -> None:
        self._batches.append(minhash.bands(self._sets))
        self._sets, self._n_shingles = [], 0

    def all(self) -> np.ndarray:
        """Return u64[B, D]."""
        if self._sets:
            self._sketch()
        return np.concatenate([np.empty((minhash.N_BANDS, 0), np.uint64), *self._batches], axis=1)


class _Part:
    """The files of a shard while they are written."""

    def __init__(self) -> None:
        self._texts: list[bytes] = []
        self._n_bytes = 0
        self._index: list[tuple[Any, ...]] = []
        self._rows: list[LedgerRow] = []
        self._names: dict[str, dict[str, int]] = {"sources": {}, "domains": {}}
        self._findings: list[tuple[int, StepFinding]] = []

    def add(self, text: WorkingDocument, judgement: Judgement, reason: Reason | None) -> None:
        """Record the outcome of a document."""
        found, number = text.found, len(self._rows)
        self._rows.append(ledger_row(text, judgement, reason))
        self._findings += [(number, finding) for finding in text.findings]
        if reason is not None:
            return
        path = found.path.encode()
        changed = text.data is not found.data
        name = sha256(text.data) if changed else bytes.fromhex(found.sha256)
        self._index.append(
            (
                np.frombuffer(name, ">u8"),
                self._n_bytes,
                len(path),
                len(text.data),
                found.n_bytes - len(text.data),
                number,
                self._code("sources", found.origin.source),
                self._code("domains", text.domain),
            )
        )
        self._texts += [path, text.data]
        self._n_bytes += len(path) + len(text.data)

    def _code(self, kind: str, name: str) -> int:
        return self._names[kind].setdefault(name, len(self._names[kind]))

    def write(self, stem: Path, key: str) -> None:
        """Write the files."""
        with atomic_writer(stem.with_suffix(".texts")) as file:
            for first in range(0, len(self._texts), _TEXTS_AT_A_TIME):
                file.write(b"".join(self._texts[first : first + _TEXTS_AT_A_TIME]))
        _write_array(stem.with_suffix(".index"), np.array(self._index, INDEX))
        rows = json.dumps(self._rows, ensure_ascii=False, separators=(",", ":"))
        write_bytes(stem.with_suffix(".rows"), rows.encode("utf-8", "surrogatepass"))
        findings: list[Json] = [[n, f.step, f.kind, f.detail, f.n] for n, f in self._findings]
        names = {kind: list(codes) for kind, codes in self._names.items()}
        files = {
            suffix: sha256_file(stem.with_suffix(suffix))
            for suffix in (".texts", ".index", ".bands", ".rows")
            if stem.with_suffix(suffix).is_file()
        }
        value = {"key": key, "findings": findings, "files": files, **names}
        write_json(stem.with_suffix(".json"), value | {"sha256": _seal(value)})


def read_shard_rows(stem: Path) -> list[LedgerRow]:
    """Return the ledger rows of a shard. Raises StorageError."""
    rows = json.loads(read_bytes(stem.with_suffix(".rows")).decode("utf-8", "surrogatepass"))
    return [LedgerRow._make(row) for row in rows]


def ledger_row(text: WorkingDocument, judgement: Judgement, reason: Reason | None) -> LedgerRow:
    """Return the row of a document from its own bytes; `split` is "train" until it is known."""
    found, origin = text.found, text.found.origin
    return LedgerRow(
        source=origin.source,
        version=origin.version,
        path=found.path,
        licence=judgement.spdx,
        licence_evidence=origin.licence_evidence,
        language=text.language,
        n_bytes=found.n_bytes,
        sha256=found.sha256,
        domain=text.domain,
        split="" if reason else "train",
        status="dropped" if reason else "kept",
        reason=reason or "",
    )


def settle(row: LedgerRow, reason: Reason | None, split: Any) -> LedgerRow:
    """Return the row of a document that its shard kept, with the decisions of the global steps."""
    if reason:
        return row._replace(split="", status="dropped", reason=reason)
    return row._replace(split=split)


def _write_array(path: Path, array: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getbuffer())


def read_array(path: Path, *, mapped: bool = False) -> np.ndarray:
    """Return an array of a shard; `mapped` reads it from disk when it is used. Raises StorageError."""
    with storage(path), path.open("rb") as file:
        array: np.ndarray = np.load(
            path if mapped else file, mmap_mode="r" if mapped else None, allow_pickle=False
        )
        return array
