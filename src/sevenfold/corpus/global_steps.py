"""The steps that need all documents at once: exact and near duplicates, perplexity, the split.

Each step is a function from the store and what was decided before. Documents are compared by their
ids, so no decision depends on the order of files. Memory: about 60 bytes a document besides the
store's, one band of keys at a time, and fixed tables.

Legend: N documents that their shards kept, in canonical order; U different ones, by ascending id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from sevenfold.core.documents import Document
from sevenfold.core.hashing import Json, digest
from sevenfold.core.process.log import Progress, Silent
from sevenfold.corpus import minhash
from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.shard_store import ShardStore
from sevenfold.corpus.steps.perplexity import Trigrams
from sevenfold.corpus.text.ngrams import shingle_set
from sevenfold.recipe.corpus_schema import CorpusSpec

Split = Literal["train", "heldout"]
_REPORT_EVERY = 1000
_SILENT = Silent()
# The outcomes by number; 0 means kept.
_OUTCOMES: tuple[Reason | None, ...] = (None, "duplicate", "near_duplicate", "perplexity")
_DUPLICATE, _NEAR, _PERPLEXITY = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Remark:
    """A finding of a global step about one document of N."""

    document: int
    step: str
    kind: str
    detail: str


@dataclass(kw_only=True)
class Decisions:
    """What all documents together decide about each of them.

    Attributes:
        outcome_N: u8[N], a place in the table of outcomes; 0 is kept.
        heldout_N: bool[N].
        by_id_U: int64[U], the first document of each id, ascending by id.
        cluster_U: int64[U], the smallest member of the cluster of near duplicates.
        n_verified: pairs of documents whose similarity was computed exactly.
    """

    outcome_N: np.ndarray  # noqa: N815 - shape suffix
    heldout_N: np.ndarray  # noqa: N815 - shape suffix
    by_id_U: np.ndarray  # noqa: N815 - shape suffix
    cluster_U: np.ndarray  # noqa: N815 - shape suffix
    remarks: list[Remark] = field(default_factory=list)
    n_verified: int = 0

    def reason(self, document: int) -> Reason | None:
        """Return the reason why the document is dropped, or None."""
        return _OUTCOMES[int(self.outcome_N[document])]

    def split(self, document: int) -> Split:
        """Return the split of a kept document."""
        return "heldout" if self.heldout_N[document] else "train"

    def chosen(self, split: Split) -> np.ndarray:
        """Return bool[N]: the kept documents of a split."""
        chosen: np.ndarray = (self.outcome_N == 0) & (self.heldout_N == (split == "heldout"))
        return chosen

    def kept(self) -> Iterator[int]:
        """Yield the documents that are not dropped so far, by ascending id."""
        yield from self.by_id_U[self.outcome_N[self.by_id_U] == 0].tolist()

    def facts(self, spec: CorpusSpec) -> dict[str, Json]:
        """Return the figures of near duplicates, when the recipe looks for them."""
        if spec.steps.near_duplicates is None:
            return {}
        _, counts = np.unique(self.cluster_U, return_counts=True)
        return {
            "near_duplicates": {
                "n_clusters": int((counts > 1).sum()),
                "n_in_clusters": int(counts[counts > 1].sum()),
                "n_verified": self.n_verified,
                "n_different": len(self.by_id_U),
            }
        }


def decide(store: ShardStore, spec: CorpusSpec, progress: Progress = _SILENT) -> Decisions:
    """Run the global steps of a recipe in their order.

    Raises StorageError when a text cannot be read.
    """
    progress.start("corpus: duplicates", None, "files")
    decisions = drop_duplicates(store)
    find_clusters(store, spec, decisions)
    progress.start("corpus: perplexity", None, "files")
    score(store, spec, decisions, progress)
    divide(store, spec, decisions)
    return decisions


def drop_duplicates(store: ShardStore) -> Decisions:
    """Keep the first document of each id, and drop the others as duplicates."""
    ids = store.index_N["id"]
    # The sort is stable: equal ids stay in canonical order.
    order = np.lexsort((ids[:, 3], ids[:, 2], ids[:, 1], ids[:, 0]))
    first = np.ones(len(order), bool)
    first[1:] = (ids[order[1:]] != ids[order[:-1]]).any(axis=1)
    outcome_N = np.zeros(len(store), np.uint8)
    outcome_N[order[~first]] = _DUPLICATE
    by_id_U = order[first]
    return Decisions(
        outcome_N=outcome_N,
        heldout_N=np.zeros(len(store), bool),
        by_id_U=by_id_U,
        cluster_U=np.arange(len(by_id_U)),
    )


def find_clusters(store: ShardStore, spec: CorpusSpec, decisions: Decisions) -> None:
    """Find clusters of near duplicates. The longest member stays; among equals, the smallest id."""
    wanted, by_id_U = spec.steps.near_duplicates, decisions.by_id_U
    if wanted is None:
        return
    verifier = minhash.Verifier(
        lambda item: shingle_set(store.read(int(by_id_U[item]))[1], wanted.shingle), wanted.jaccard
    )
    bands = (store.band(number)[by_id_U] for number in range(minhash.N_BANDS))
    labels_U = minhash.clusters(bands, len(by_id_U), verifier)
    sizes_U = store.index_N["n_bytes"][by_id_U]
    order = np.lexsort((np.arange(len(by_id_U)), -sizes_U, labels_U))
    first = np.ones(len(order), bool)
    first[1:] = labels_U[order[1:]] != labels_U[order[:-1]]
    stays_by_label = dict(zip(labels_U[order[first]].tolist(), order[first].tolist(), strict=True))
    for item in np.sort(order[~first]).tolist():
        document, stays = int(by_id_U[item]), int(by_id_U[stays_by_label[int(labels_U[item])]])
        decisions.remarks.append(Remark(document, "near_duplicates", "cluster", store.id_of(stays)))
        if not wanted.keep:
            decisions.outcome_N[document] = _NEAR
    decisions.cluster_U, decisions.n_verified = labels_U, verifier.n_verified


def report_progress(documents: Iterable[int], progress: Progress) -> Iterator[int]:
    """Yield the documents, and report progress every 1,000."""
    for n_taken, document in enumerate(documents):
        if n_taken % _REPORT_EVERY == 0:
            progress.advance(n_taken)
        yield document


def score(store: ShardStore, spec: CorpusSpec, decisions: Decisions, progress: Progress) -> None:
    """Drop the documents whose bits per byte, by trigrams of the others, lie outside the limits."""
    limits = spec.steps.perplexity
    if limits is None:
        return
    # Two folds by the last bit of the id. Each fold is scored by the counts of the other one, so no
    # document contributes to its own score.
    folds: list[list[int]] = [[], []]
    for document in decisions.kept():
        folds[int(store.index_N["id"][document, 3]) & 1].append(document)
    for scored, counted in (folds, folds[::-1]):
        model = Trigrams(store.read(document)[1] for document in report_progress(counted, progress))
        for document in report_progress(scored, progress):
            bits = model.bits_per_byte(store.read(document)[1])
            if not limits.min_bits <= bits <= limits.max_bits:
                decisions.outcome_N[document] = _PERPLEXITY
                decisions.remarks.append(Remark(document, "perplexity", "bits_per_byte", f"{bits:.4f}"))


def divide(store: ShardStore, spec: CorpusSpec, decisions: Decisions) -> None:
    """Choose the held-out documents: by document, by cluster, or by source
    with the clusters it shares.
    """
    ids, by_id_U = store.index_N["id"], decisions.by_id_U
    if spec.steps.split == "source":
        keys_U = _source_keys(store, decisions)
    elif spec.steps.split == "cluster":
        keys_U = ids[by_id_U[decisions.cluster_U], 0] >> np.uint64(32)
    else:
        keys_U = ids[by_id_U, 0] >> np.uint64(32)
    decisions.heldout_N[by_id_U] = keys_U % spec.holdout == 0


def _source_keys(store: ShardStore, decisions: Decisions) -> np.ndarray:
    """Return u64[U]: 32 bits of a digest of the first name among the sources that clusters join."""
    joined = minhash.Clusters(len(store.sources))
    source_U = store.index_N["source"][decisions.by_id_U]
    for item in np.flatnonzero(decisions.cluster_U != np.arange(len(source_U))).tolist():
        joined.join(int(source_U[item]), int(source_U[decisions.cluster_U[item]]))
    labels = joined.labels()
    first: dict[int, str] = {}
    for code, name in sorted(enumerate(store.sources), key=lambda pair: pair[1]):
        first.setdefault(int(labels[code]), name)
    keys = [int(digest("sevenfold/split/1", first[int(label)])[:8], 16) for label in labels]
    return np.array(keys, np.uint64)[source_U] if len(source_U) else np.empty(0, np.uint64)


def documents(
    store: ShardStore, decisions: Decisions, split: Split, progress: Progress = _SILENT
) -> Iterator[Document]:
    """Yield the documents of a split in ascending order of id. Each is read when it is yielded."""
    for document in report_progress(decisions.kept(), progress):
        if decisions.split(document) == split:
            path, text = store.read(document)
            entry = store.index_N[document]
            yield Document(
                store.id_of(document),
                text.decode(),
                store.domains[entry["domain"]],
                store.sources[entry["source"]],
                path.decode(),
            )
