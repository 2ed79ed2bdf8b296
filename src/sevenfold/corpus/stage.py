"""Stage `corpus`: turn sources into licensed, distinct documents, split and recorded in a ledger.

The outputs depend on the bytes of the documents and on the recipe. They do not depend on the order
of a directory, the clock, the machine or the number of workers. Documents go through numbered
shards on disk (`corpus.shards`), which an interrupted run leaves for the next one.
`corpus.global_steps` makes the decisions that need all documents. Memory: a few shards, and about
120 bytes for each document. Formats and rules: specs/dataset.md.
"""

from __future__ import annotations

import platform
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sevenfold.core.documents import (
    Columns,
    Document,
    pyarrow_version,
    read_documents,
    read_rows,
    write_documents,
    write_rows,
)
from sevenfold.core.errors import StorageError, storage
from sevenfold.core.files import read_json, remove_partials
from sevenfold.core.hashing import Json, digest
from sevenfold.core.run_files import FINDINGS, HELDOUT_DOCUMENTS, LEDGER, SHARDS, TRAIN_DOCUMENTS
from sevenfold.corpus import shards
from sevenfold.corpus.document import SourceDocument
from sevenfold.corpus.global_steps import Decisions, Split, decide, documents
from sevenfold.corpus.ledger import (
    LEDGER_COLUMNS,
    REASONS,
    Condensed,
    Count,
    LedgerRow,
    condense,
    reconcile,
    summarise,
    tally,
)
from sevenfold.corpus.licences import Judgement, LicencePolicy
from sevenfold.corpus.shard_store import ShardStore
from sevenfold.corpus.sources import read_source
from sevenfold.corpus.sources.packages import pinned_identity
from sevenfold.corpus.sources.synthetic import make_samples, synthetic_identity
from sevenfold.corpus.steps.table import switched_on, tool_versions
from sevenfold.corpus.workers import make_shards
from sevenfold.recipe.corpus_schema import CorpusSpec, PinnedSource, StepsSpec, SyntheticSource
from sevenfold.runs.job import Job, StageResult

# The directory is removed when the stage ends successfully.
FINDING_COLUMNS: Columns = {
    "source": "string",
    "path": "string",
    "sha256": "string",
    "step": "string",
    "kind": "string",
    "detail": "string",
    "n": "int64",
}


def check_job(job: Job) -> None:
    """Refuse before any stage runs what the corpus stage cannot do. Raises UsageError."""
    switched_on(job.recipe.corpus.steps)


def run(job: Job) -> StageResult:
    """Build the corpus.

    Raises:
        StorageError: a source is missing, it holds no usable document, or a file cannot be written
            or read.
        RecipeError: the sources or licences of the recipe are invalid.
        UsageError: a library is missing.
    """
    spec = job.recipe.corpus
    directory = job.directory("corpus")
    work = directory / SHARDS
    for source in spec.sources:
        if isinstance(source, SyntheticSource):
            make_samples(source, job.progress)
    job.progress.start("corpus", None, "files")
    arrivals = _Arrivals(LicencePolicy(spec.licences))
    n_parts = _make_parts(job, arrivals, work)
    store = ShardStore(work, n_parts)
    try:
        decisions = decide(store, spec, job.progress)
        settled = _Settled(work, n_parts, store, decisions)
        _refuse_empty(settled, arrivals, spec)
        written: dict[str, Count] = defaultdict(Count)
        contents: dict[str, str] = {}
        job.progress.start("corpus: writing", None, "files")
        files: dict[Split, str] = {"train": TRAIN_DOCUMENTS, "heldout": HELDOUT_DOCUMENTS}
        for split, name in files.items():
            texts = documents(store, decisions, split, job.progress)
            counted = _counted(texts, written[split])
            contents[name] = write_documents(directory / name, counted).content
        contents[LEDGER] = write_rows(directory / LEDGER, LEDGER_COLUMNS, settled.rows()).content
        (directory / FINDINGS).unlink(missing_ok=True)
        if spec.steps != StepsSpec():
            found = write_rows(directory / FINDINGS, FINDING_COLUMNS, settled.findings())
            contents[FINDINGS] = found.content
        job.progress.start("corpus: counting", None, "files")
        ledger = condense(ledger_rows(directory / LEDGER))
        facts = _facts(directory, spec, written, ledger) | decisions.facts(spec)
    finally:
        store.close()
    for split in files:
        # The ledger has the sizes before redaction.
        written[split].n_bytes += int(store.index_N["n_redacted"][decisions.chosen(split)].sum())
    reconcile(arrivals.seen, ledger, written)
    shards.remove_all(work)
    job.progress.advance(facts["n_seen"], kept=facts["n_kept"])
    tools = {
        "python": platform.python_version(),
        "pyarrow": pyarrow_version(),
        "license-expression": version("license-expression"),
        # It decides the gzip figure.
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        **tool_versions(spec.steps),
    }
    return StageResult(outputs=list(contents), contents=contents, facts=facts, tools=tools)


def fingerprint(job: Job) -> str:
    """Return the hex digest of the content of everything outside the recipe that `run` would read.

    Two jobs with equal recipes and fingerprints have equal corpora. Every file is read. No package
    is unpacked and no sample is made, because the hash of a package and the version of the
    generators bind their contents. Raises what `run` raises.
    """
    spec = job.recipe.corpus
    identities: list[str] = []
    for source in spec.sources:
        if isinstance(source, PinnedSource):
            identities += pinned_identity(source, job.recipe_dir)
            continue
        if isinstance(source, SyntheticSource):
            identities += synthetic_identity(source)
            continue
        for found in read_source(source, job.recipe_dir, spec.max_bytes):
            origin = found.origin
            identities += [origin.source, origin.version, origin.licence or "", origin.licence_evidence]
            identities += [found.path, found.sha256, str(found.n_bytes), found.problem or ""]
    return digest("sevenfold/corpus/2", *identities)


def gzip_bits_per_byte(documents: Iterable[Document]) -> float:
    """Return 8 * (size of all documents, concatenated, under gzip -9) / (size of the documents).

    One stream is the stronger baseline, because each document helps to compress the next (5 %
    here).
    """
    packer = zlib.compressobj(9, wbits=31)
    n_packed = n_bytes = 0
    for document in documents:
        text = document.text.encode()
        n_bytes += len(text)
        n_packed += len(packer.compress(text))
    return 8 * (n_packed + len(packer.flush())) / n_bytes


def ledger_rows(path: Path) -> Iterator[LedgerRow]:
    """Yield the rows of a ledger, streamed. Raises StorageError."""
    for values in read_rows(path, LEDGER_COLUMNS):
        yield LedgerRow._make(values)


def _found(spec: CorpusSpec, base: Path) -> Iterator[SourceDocument]:
    for source in spec.sources:
        yield from read_source(source, base, spec.max_bytes)


@dataclass
class _Arrivals:
    """Counts what the sources yield on arrival, independently of the ledger. Both are compared at
    the end.
    """

    policy: LicencePolicy
    seen: dict[tuple[str, str], Count] = field(default_factory=lambda: defaultdict(Count))

    def judged(self, documents: Iterable[SourceDocument]) -> Iterator[tuple[SourceDocument, Judgement]]:
        """Yield each document with the judgement of its licence."""
        for found in documents:
            judgement = self.policy.judge(found.origin.licence)
            self.seen[found.origin.source, judgement.spdx].add(found.n_bytes)
            yield found, judgement


def _make_parts(job: Job, arrivals: _Arrivals, work: Path) -> int:
    """Make the missing shards. Return the number of shards."""
    spec = job.recipe.corpus
    n_parts, n_seen = 0, 0
    with storage(work):
        work.mkdir(parents=True, exist_ok=True)
        remove_partials(work)
        remove_partials(work.parent)

    def missing() -> Iterator[shards.ShardTask]:
        nonlocal n_parts, n_seen
        documents = arrivals.judged(_found(spec, job.recipe_dir))
        for task in shards.cut(documents, spec, job.recipe_dir, work):
            n_parts += 1
            if shards.is_made(task, job.progress.note):
                n_seen += len(task.documents)
                job.progress.advance(n_seen)
            else:
                yield task

    for n_documents in make_shards(missing(), job.workers, job.progress):
        n_seen += n_documents
        job.progress.advance(n_seen)
    return n_parts


def _counted(texts: Iterable[Document], count: Count) -> Iterator[Document]:
    for document in texts:
        text = document.text
        count.add(len(text) if text.isascii() else len(text.encode()))
        yield document


@dataclass(frozen=True)
class _Settled:
    """The rows of all shards, with the decisions of the global steps."""

    work: Path
    n_shards: int
    store: ShardStore
    decisions: Decisions

    def rows(self) -> Iterator[LedgerRow]:
        """Yield the rows of the ledger in the order of the shards."""
        for number in range(self.n_shards):
            kept = dict(self.store.shard(number))
            stem = shards.shard_stem(self.work, number)
            for place, row in enumerate(shards.read_shard_rows(stem)):
                document = kept.get(place)
                if document is None:
                    yield row
                else:
                    yield shards.settle(row, self.decisions.reason(document), self.decisions.split(document))

    def findings(self) -> Iterator[tuple[str | int, ...]]:
        """Yield the findings of the steps in canonical order."""
        remarks = defaultdict(list)
        for remark in self.decisions.remarks:
            remarks[remark.document].append(remark)
        for number in range(self.n_shards):
            stem = shards.shard_stem(self.work, number)
            noted: dict[int, list[tuple[str | int, ...]]] = defaultdict(list)
            for place, *finding in read_json(stem.with_suffix(".json"))["findings"]:
                noted[place].append(tuple(finding))
            for place, document in self.store.shard(number):
                noted[place] += [(r.step, r.kind, r.detail, 1) for r in remarks.get(document, ())]
            for place, row in enumerate(shards.read_shard_rows(stem)):
                for finding in noted.get(place, ()):
                    yield row.source, row.path, row.sha256, *finding


def _refuse_empty(settled: _Settled, arrivals: _Arrivals, spec: CorpusSpec) -> None:
    where = ", ".join(dict.fromkeys(source for source, _ in arrivals.seen)) or "corpus.sources"
    n_seen = sum(count.n_documents for count in arrivals.seen.values())
    if not n_seen:
        raise StorageError(
            "no corpus files found",
            where=where,
            remedy="check corpus.sources: the paths and the `include` globs",
        )
    splits: tuple[Split, ...] = ("train", "heldout")
    kept = {split: int(settled.decisions.chosen(split).sum()) for split in splits}
    if not any(kept.values()):
        dropped = Counter(row.reason for row in settled.rows())
        raise StorageError(
            f"no document left: {n_seen} seen, all dropped ({_listed(dropped)})",
            where=where,
            remedy="check corpus.licences and the limits min_bytes and max_bytes",
        )
    for split, n_documents in kept.items():
        if not n_documents:
            raise StorageError(
                f"no {split} document: {sum(kept.values())} kept, about one in {spec.holdout} is held out",
                where=where,
                remedy="add documents, or change corpus.holdout",
            )


def _listed(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in sorted(counts.items()))


def _facts(
    directory: Path, spec: CorpusSpec, written: dict[str, Count], ledger: Condensed
) -> dict[str, Json]:
    reasons: Counter[str] = Counter()
    for row, count in ledger:
        reasons[row.reason] += count.n_documents
    facts: dict[str, Json] = {
        "n_seen": reasons.total(),
        "n_kept": reasons[""],
        "n_train": written["train"].n_documents,
        "n_heldout": written["heldout"].n_documents,
        "bytes_train": written["train"].n_bytes,
        "bytes_heldout": written["heldout"].n_bytes,
        "dropped": {reason: reasons[reason] for reason in REASONS if reasons[reason]},
        "groups": summarise(ledger),
        "languages": tally(ledger),
        "heldout_gzip_bpb": gzip_bits_per_byte(read_documents(directory / HELDOUT_DOCUMENTS)),
        "steps": [step.name for step in switched_on(spec.steps)],
        "mix": dict(spec.mix),
    }
    if spec.steps != StepsSpec():
        found: Counter[tuple[str, str]] = Counter()
        for _, _, _, step, kind, _, n in read_rows(directory / FINDINGS, FINDING_COLUMNS):
            found[step, kind] += n
        facts["findings"] = [{"step": s, "kind": k, "n": n} for (s, k), n in sorted(found.items())]
    return facts
