"""Stage `corpus`: sources -> licensed, distinct documents in content-hash order, split; a ledger of all seen.

The outputs depend on the bytes of the documents and on the recipe, not on the order of a directory, the clock
or the machine. Nothing changes a text: it is kept as it is, or dropped under a reason. Memory: the kept
texts, once. Formats and rules: specs/dataset.md.
"""

from __future__ import annotations

import gzip
import platform
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from sevenfold.core.documents import Document, pyarrow_version, write_documents, write_rows
from sevenfold.core.errors import StorageError
from sevenfold.core.hashing import Json, digest
from sevenfold.corpus.ledger import LEDGER_COLUMNS, REASONS, Count, LedgerRow, Reason, reconcile, summarise
from sevenfold.corpus.licences import LicencePolicy
from sevenfold.corpus.sources import Found, read_source
from sevenfold.recipe.job import Job, StageResult
from sevenfold.recipe.schema import CorpusSpec

TRAIN, HELDOUT, LEDGER = "train.parquet", "heldout.parquet", "ledger.parquet"
# A text file may hold these; any other C0 control marks binary data, or moves a terminal's cursor (CM-1).
ALLOWED_CONTROLS = "\t\n\f\r"
_FORBIDDEN = re.compile(
    "[" + "".join(re.escape(c) for c in map(chr, range(32)) if c not in ALLOWED_CONTROLS) + "]"
)
_PROGRESS_EVERY = 100


def run(job: Job) -> StageResult:
    """Build the corpus.

    Raises:
        StorageError: a source is missing, nothing usable is in it, or a file cannot be written.
        RecipeError: the recipe's sources or licences cannot be understood.
        UsageError: a library is missing.
    """
    spec = job.recipe.corpus
    job.progress.start("corpus", None, "files")
    collection = _Collection(spec)
    for n_seen, found in enumerate(_found(spec, job.recipe_dir), start=1):
        collection.take(found)
        if n_seen % _PROGRESS_EVERY == 0:
            job.progress.advance(n_seen)
    kept = sorted(collection.kept.values(), key=lambda document: document.id)
    _refuse_empty(collection, spec)
    directory = job.directory("corpus")
    written: dict[str, Count] = defaultdict(Count)
    for split, name in (("train", TRAIN), ("heldout", HELDOUT)):
        write_documents(directory / name, _counted(kept, split, spec.holdout, written))
    write_rows(directory / LEDGER, LEDGER_COLUMNS, (row.values() for row in collection.rows))
    reconcile(collection.seen, collection.rows, written)
    facts = _facts(collection, kept, written, spec.holdout)
    job.progress.advance(len(collection.rows), kept=len(kept))
    tools = {
        "pyarrow": pyarrow_version(),
        "license-expression": version("license-expression"),
        "zlib": zlib.ZLIB_RUNTIME_VERSION,  # decides the gzip figure
    }
    return StageResult(outputs=[TRAIN, HELDOUT, LEDGER], facts=facts, tools=tools)


def fingerprint(job: Job) -> str:
    """Hex digest over the content of everything outside the recipe that `run` would read.

    Two jobs with equal recipes and fingerprints have equal corpora. Reads every file. Raises as `run` does.
    """
    parts = []
    for found in _found(job.recipe.corpus, job.recipe_dir):
        origin = found.origin
        parts += [origin.source, origin.version, origin.licence or "", origin.licence_evidence]
        parts += [found.path, found.sha256, str(found.n_bytes), found.problem or ""]
    return digest("sevenfold/corpus/1", *parts)


def split_of(document_id: str, holdout: int) -> Literal["train", "heldout"]:
    """The split of a document: held out when the first 32 bits of its id are a multiple of `holdout`."""
    return "heldout" if int(document_id[:8], 16) % holdout == 0 else "train"


def gzip_bits_per_byte(documents: list[Document]) -> float:
    """8 * (bytes of all documents, one behind the other, under gzip -9) / (bytes of the documents).

    One stream is the stronger opponent: each document helps to compress the next (5 % here).
    """
    text = b"".join(document.text.encode() for document in documents)
    return 8 * len(gzip.compress(text, 9, mtime=0)) / len(text)


def _found(spec: CorpusSpec, base: Path) -> Iterator[Found]:
    for source in spec.sources:
        yield from read_source(source, base, spec.max_bytes)


class _Collection:
    """What was seen and decided. `seen` counts on arrival, apart from the ledger: both are compared."""

    def __init__(self, spec: CorpusSpec) -> None:
        self._spec = spec
        self._policy = LicencePolicy(spec.licences)
        self.seen: dict[tuple[str, str], Count] = defaultdict(Count)
        self.rows: list[LedgerRow] = []
        self.kept: dict[str, Document] = {}

    def take(self, found: Found) -> None:
        """Decide about one document, and write that down."""
        origin, judgement = found.origin, self._policy.judge(found.origin.licence)
        self.seen[origin.source, judgement.spdx].add(found.n_bytes)
        reason, text = self._decide(found, judgement.reason)
        split: Literal["train", "heldout", ""] = ""
        if not reason:
            self.kept[found.sha256] = Document(found.sha256, text, origin.domain, origin.source, found.path)
            split = split_of(found.sha256, self._spec.holdout)
        self.rows.append(
            LedgerRow(
                source=origin.source,
                version=origin.version,
                path=found.path,
                licence=judgement.spdx,
                licence_evidence=origin.licence_evidence,
                language=found.language,
                n_bytes=found.n_bytes,
                sha256=found.sha256,
                domain=origin.domain,
                split=split,
                status="dropped" if reason else "kept",
                reason=reason,
            )
        )

    def _decide(self, found: Found, licence_reason: Reason | None) -> tuple[Reason | Literal[""], str]:
        """The first reason that holds (order of `ledger.REASONS`), or "" and the text."""
        reason = found.problem or licence_reason
        if reason or found.data is None:
            return reason or "unreadable", ""
        if not found.data.strip():
            return "empty", ""
        if len(found.data) < self._spec.min_bytes:
            return "too_small", ""
        try:
            text = found.data.decode("utf-8")
        except UnicodeDecodeError:
            return "not_utf8", ""
        if _FORBIDDEN.search(text):
            return "forbidden_control", ""
        return ("duplicate", "") if found.sha256 in self.kept else ("", text)


def _counted(kept: list[Document], split: str, holdout: int, written: dict[str, Count]) -> Iterator[Document]:
    for document in kept:
        if split_of(document.id, holdout) == split:
            written[split].add(len(document.text.encode()))
            yield document


def _refuse_empty(collection: _Collection, spec: CorpusSpec) -> None:
    where = ", ".join(dict.fromkeys(row.source for row in collection.rows)) or "corpus.sources"
    if not collection.rows:
        raise StorageError(
            "no corpus files found",
            where=where,
            remedy="check corpus.sources: the paths and the `include` globs",
        )
    if not collection.kept:
        dropped = Counter(row.reason for row in collection.rows)
        raise StorageError(
            f"no document left: {len(collection.rows)} seen, all dropped ({_listed(dropped)})",
            where=where,
            remedy="check corpus.licences and the limits min_bytes and max_bytes",
        )
    splits = Counter(split_of(document_id, spec.holdout) for document_id in collection.kept)
    for split in ("train", "heldout"):
        if not splits[split]:
            raise StorageError(
                f"no {split} document: {len(collection.kept)} kept, about one in {spec.holdout} is held out",
                where=where,
                remedy="add documents, or change corpus.holdout",
            )


def _listed(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in sorted(counts.items()))


def _facts(
    collection: _Collection, kept: list[Document], written: dict[str, Count], holdout: int
) -> dict[str, Json]:
    reasons = Counter(row.reason for row in collection.rows if row.reason)
    return {
        "python_version": platform.python_version(),
        "n_seen": len(collection.rows),
        "n_kept": len(kept),
        "n_train": written["train"].n_documents,
        "n_heldout": written["heldout"].n_documents,
        "bytes_train": written["train"].n_bytes,
        "bytes_heldout": written["heldout"].n_bytes,
        "dropped": {reason: reasons[reason] for reason in REASONS if reasons[reason]},
        "groups": summarise(collection.rows),
        "heldout_gzip_bpb": gzip_bits_per_byte([d for d in kept if split_of(d.id, holdout) == "heldout"]),
    }
