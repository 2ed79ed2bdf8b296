"""What needs all documents at once: exact and near duplicates, perplexity, the split. Texts stay on disk.

Documents are numbered by their ids, so nothing here depends on the order of files. Memory: about 120 bytes a document (ids, places,
one band of keys, clusters) and fixed tables; a text is read when it is written, verified or scored, and forgotten.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from sevenfold.core.documents import Document
from sevenfold.core.errors import SevenfoldError, storage
from sevenfold.core.files import read_json
from sevenfold.core.hashing import Json, digest
from sevenfold.core.log import Progress, Silent
from sevenfold.corpus import minhash
from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.shards import INDEX, part_stem, read_array
from sevenfold.corpus.steps.perplexity import Trigrams
from sevenfold.corpus.text.ngrams import shingle_set
from sevenfold.recipe.schema import CorpusSpec

Split = Literal["train", "heldout"]
_OPEN_FILES = 128
_TOLD_EVERY = 1000
_SILENT = Silent()
# What is decided here, by number; 0 is kept.
_OUTCOMES: tuple[Reason | None, ...] = (None, "duplicate", "near_duplicate", "perplexity")
_DUPLICATE, _NEAR, _PERPLEXITY = 1, 2, 3

# Legend: N documents that their parts kept, in canonical order; U different ones, by ascending id.


@dataclass(frozen=True, slots=True)
class Remark:
    """What was found out about one document of N, for the findings."""

    document: int
    step: str
    kind: str
    detail: str


def split_of(document_id: str, holdout: int) -> Split:
    """The split that an id stands for: held out when its first 32 bits are a multiple of `holdout`."""
    return "heldout" if int(document_id[:8], 16) % holdout == 0 else "train"


class Gathered:
    """All parts of a corpus together.

    Raises:
        StorageError: a part cannot be read.
    """

    def __init__(self, directory: Path, n_parts: int, spec: CorpusSpec, progress: Progress = _SILENT) -> None:
        self._directory, self._n_parts, self._spec, self._progress = directory, n_parts, spec, progress
        indexes, self._parts, names = [], [], {"sources": {}, "domains": {}}
        for number in range(n_parts):
            index = read_array(self._stem(number).with_suffix(".index"))
            about = read_json(self._stem(number).with_suffix(".json"))
            for kind, column in (("sources", "source"), ("domains", "domain")):
                codes = [names[kind].setdefault(name, len(names[kind])) for name in about[kind]]
                index[column] = np.array(codes, np.int32)[index[column]] if len(index) else index[column]
            indexes.append(index)
        self.sources, self.domains = list(names["sources"]), list(names["domains"])
        sizes = [len(index) for index in indexes]
        self._firsts = np.cumsum([0, *sizes])
        self._index_N = np.concatenate([np.empty(0, INDEX), *indexes])
        self._handles: OrderedDict[int, int] = OrderedDict()
        self.remarks: list[Remark] = []
        self.n_verified = 0
        self.outcome_N = np.zeros(len(self._index_N), np.uint8)
        self.heldout_N = np.zeros(len(self._index_N), bool)
        progress.start("corpus: duplicates", None, "files")
        self._by_id_U = self._drop_duplicates()
        self._cluster_U = self._find_clusters()
        progress.start("corpus: perplexity", None, "files")
        self._score()
        self._divide()

    def _stem(self, number: int) -> Path:
        return part_stem(self._directory, number)

    def close(self) -> None:
        """Close the files of texts."""
        while self._handles:
            os.close(self._handles.popitem()[1])

    def __len__(self) -> int:
        return len(self._index_N)

    def id_of(self, document: int) -> str:
        """Hexadecimal id."""
        return str(self._index_N["id"][document].astype(">u8").tobytes().hex())

    def _read(self, document: int) -> tuple[bytes, bytes]:
        """Path and text."""
        part = int(np.searchsorted(self._firsts, document, side="right")) - 1
        entry = self._index_N[document]
        n_path, n_bytes = int(entry["n_path"]), int(entry["n_bytes"])
        path = self._stem(part).with_suffix(".texts")
        with storage(path):
            data = os.pread(self._handle(part, path), n_path + n_bytes, int(entry["offset"]))
        if len(data) != n_path + n_bytes:
            raise SevenfoldError(f"{len(data)} bytes of {n_path + n_bytes}", where=str(path))
        return data[:n_path], data[n_path:]

    def _handle(self, part: int, path: Path) -> int:
        if part not in self._handles:
            self._handles[part] = os.open(path, os.O_RDONLY)
            if len(self._handles) > _OPEN_FILES:
                os.close(self._handles.popitem(last=False)[1])
        self._handles.move_to_end(part)
        return self._handles[part]

    def _drop_duplicates(self) -> np.ndarray:
        """int64[U]: the first document of each id, ascending by id; the others are duplicates."""
        ids = self._index_N["id"]
        order = np.lexsort(
            (ids[:, 3], ids[:, 2], ids[:, 1], ids[:, 0])
        )  # stable: canonical order among equals
        first = np.ones(len(order), bool)
        first[1:] = (ids[order[1:]] != ids[order[:-1]]).any(axis=1)
        self.outcome_N[order[~first]] = _DUPLICATE
        different: np.ndarray = order[first]
        return different

    def _find_clusters(self) -> np.ndarray:
        """int64[U]: cluster of each different document, by its smallest member; its longest stays (of equals, the smallest id)."""
        wanted, by_id = self._spec.steps.near_duplicates, self._by_id_U
        if wanted is None:
            return np.arange(len(by_id))
        verifier = minhash.Verifier(
            lambda item: shingle_set(self._read(int(by_id[item]))[1], wanted.shingle), wanted.jaccard
        )
        labels = minhash.clusters(self._bands(), len(by_id), verifier)
        self.n_verified = verifier.n_verified
        sizes = self._index_N["n_bytes"][by_id]
        order = np.lexsort((np.arange(len(by_id)), -sizes, labels))
        first = np.ones(len(order), bool)
        first[1:] = labels[order[1:]] != labels[order[:-1]]
        stays_by_label = dict(zip(labels[order[first]].tolist(), order[first].tolist(), strict=True))
        for item in np.sort(order[~first]).tolist():
            document, stays = int(by_id[item]), int(by_id[stays_by_label[int(labels[item])]])
            self.remarks.append(Remark(document, "near_duplicates", "cluster", self.id_of(stays)))
            if not wanted.keep:
                self.outcome_N[document] = _NEAR
        return labels

    def _bands(self) -> Iterator[np.ndarray]:
        parts = [
            read_array(self._stem(number).with_suffix(".bands"), mapped=True)
            for number in range(self._n_parts)
        ]
        for band in range(minhash.N_BANDS):
            yield np.concatenate([part[band] for part in parts])[self._by_id_U]

    def _kept(self) -> Iterator[int]:
        """Documents that nothing has dropped so far, by ascending id."""
        yield from self._by_id_U[self.outcome_N[self._by_id_U] == 0].tolist()

    def _told(self, documents: Iterable[int]) -> Iterator[int]:
        """Documents, with a word now and then to who waits."""
        for n_taken, document in enumerate(documents):
            if n_taken % _TOLD_EVERY == 0:
                self._progress.advance(n_taken)
            yield document

    def _score(self) -> None:
        limits = self._spec.steps.perplexity
        if limits is None:
            return
        # Two folds by the last bit of the id, each scored by what the other has: no document vouches for itself.
        folds: list[list[int]] = [[], []]
        for document in self._kept():
            folds[int(self._index_N["id"][document, 3]) & 1].append(document)
        for scored, counted in (folds, folds[::-1]):
            model = Trigrams(self._read(document)[1] for document in self._told(counted))
            for document in self._told(scored):
                bits = model.bits_per_byte(self._read(document)[1])
                if not limits.min_bits <= bits <= limits.max_bits:
                    self.outcome_N[document] = _PERPLEXITY
                    self.remarks.append(Remark(document, "perplexity", "bits_per_byte", f"{bits:.4f}"))

    def _divide(self) -> None:
        """Held out or not: by document, by cluster, or by source with all the clusters that it shares with others."""
        by, holdout = self._spec.steps.split, self._spec.holdout
        if by == "source":
            keys = self._source_keys()
        elif by == "cluster":
            keys = self._index_N["id"][self._by_id_U[self._cluster_U], 0] >> np.uint64(32)
        else:
            keys = self._index_N["id"][self._by_id_U, 0] >> np.uint64(32)
        self.heldout_N[self._by_id_U] = keys % holdout == 0

    def _source_keys(self) -> np.ndarray:
        """u64[U]: 32 bits of a digest of the first name among the sources that clusters join."""
        joined = minhash.Clusters(len(self.sources))
        source_U = self._index_N["source"][self._by_id_U]  # noqa: N806 - shape suffix
        for item in np.flatnonzero(self._cluster_U != np.arange(len(source_U))).tolist():
            joined.join(int(source_U[item]), int(source_U[self._cluster_U[item]]))
        labels = joined.labels()
        first: dict[int, str] = {}
        for code, name in sorted(enumerate(self.sources), key=lambda pair: pair[1]):
            first.setdefault(int(labels[code]), name)
        keys = [int(digest("sevenfold/split/1", first[int(label)])[:8], 16) for label in labels]
        return np.array(keys, np.uint64)[source_U] if len(source_U) else np.empty(0, np.uint64)

    def reason(self, document: int) -> Reason | None:
        """Why all documents together drop this one, or None."""
        return _OUTCOMES[self.outcome_N[document]]

    def split(self, document: int) -> Split:
        """Split of a document that stays."""
        return "heldout" if self.heldout_N[document] else "train"

    def n_kept(self, split: Split) -> int:
        """Documents of a split."""
        return int(((self.outcome_N == 0) & (self.heldout_N == (split == "heldout"))).sum())

    def documents(self, split: Split) -> Iterator[Document]:
        """Documents of a split in ascending order of id, read as they are taken."""
        for document in self._told(self._kept()):
            if self.split(document) == split:
                path, text = self._read(document)
                entry = self._index_N[document]
                yield Document(
                    self.id_of(document),
                    text.decode(),
                    self.domains[entry["domain"]],
                    self.sources[entry["source"]],
                    path.decode(),
                )

    def n_redacted(self, split: Split) -> int:
        """By how many bytes the texts of a split are shorter than what was found."""
        chosen = (self.outcome_N == 0) & (self.heldout_N == (split == "heldout"))
        return int(self._index_N["n_redacted"][chosen].sum())

    def part(self, number: int) -> Iterator[tuple[int, int]]:
        """(row in the part, document) of what part `number` kept, in order."""
        first, last = int(self._firsts[number]), int(self._firsts[number + 1])
        yield from zip(self._index_N["row"][first:last].tolist(), range(first, last), strict=True)

    def facts(self) -> dict[str, Json]:
        """Figures of near duplicates, when they were looked for."""
        if self._spec.steps.near_duplicates is None:
            return {}
        _, counts = np.unique(self._cluster_U, return_counts=True)
        n_different = len(self._by_id_U)
        return {
            "near_duplicates": {
                "n_clusters": int((counts > 1).sum()),
                "n_in_clusters": int(counts[counts > 1].sum()),
                "n_verified": self.n_verified,
                "n_different": n_different,
            }
        }
