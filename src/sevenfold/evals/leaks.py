"""Find leaks: evaluation items whose text or program is in the training documents of the model (C14).

The documents of the corpus that the model's seal names are compared with each item as the corpus
stage compares them with whole sets: 13-grams of words, and functions up to names. An item that
matches is dropped, and the matched spans are recorded, because a count alone cannot be checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sevenfold.core.documents import read_documents
from sevenfold.core.errors import StorageError
from sevenfold.core.hashing import Json, sha256
from sevenfold.core.manifest import damaged_output, output_root, read_manifest
from sevenfold.core.process.log import Progress
from sevenfold.core.run_files import TRAIN_DOCUMENTS
from sevenfold.corpus.text import disguise, functions
from sevenfold.corpus.text.contamination_index import NGRAM, ngrams
from sevenfold.corpus.text.grammars import parser
from sevenfold.corpus.text.ngrams import Sorted, ngram_hashes, word_hashes
from sevenfold.engine.session import Model
from sevenfold.evals.tasks.cards import Item
from sevenfold.synthetic.sample import RESPONSE

_WORD = re.compile(rb"[0-9A-Za-z_\x80-\xff]+")
MAX_SPAN = 400


@dataclass(frozen=True, kw_only=True)
class Leaks:
    """The result of a search: the corpus, and the matched spans of text by the id of the item."""

    is_checked: bool
    # The root of the corpus, or the reason why nothing was compared.
    against: str
    dropped: Mapping[str, list[str]] = field(default_factory=dict)

    def facts(self) -> Json:
        """Return the check as JSON."""
        return {"checked": self.is_checked, "against": self.against, "dropped": dict(self.dropped)}


NOT_CHECKABLE = Leaks(is_checked=False, against="not checkable: no corpus is given for this model")


@dataclass(frozen=True)
class Corpus:
    """The training documents that a model's seal names, after checking their hashes."""

    path: Path
    root: str


def corpus_of(model: Model, directory: Path) -> Corpus:
    """Return the corpus stage of a run directory (or the stage itself), if the model was trained on
    it.

    Raises:
        StorageError: it is not a finished corpus, a file has changed, or the seal names another root.
    """
    folder = directory / "corpus" if (directory / "corpus").is_dir() else directory
    manifest = read_manifest(folder)
    if manifest is None or manifest.stage != "corpus":
        raise StorageError(
            "no finished corpus", where=str(folder), remedy="name the run directory of the model"
        )
    if (path := damaged_output(folder, manifest)) is not None:
        raise StorageError("a file of the corpus is missing or changed", where=str(folder / path))
    root = output_root(manifest.outputs)
    sealed = model.artifact.provenance.get("identity", {}).get("dataset_root")
    if root != sealed:
        raise StorageError(
            f"the corpus is not the model's: its root is {root[:16]}, the seal names {str(sealed)[:16]}",
            where=str(folder),
            remedy="name the run directory in which the model was made",
        )
    return Corpus(folder / TRAIN_DOCUMENTS, root)


class _Index:
    """The search index: the hashes of every item, and the items of each hash."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = {item.id: item for item in items}
        pairs = [
            (int(hashed), item.id)
            for item in items
            for text in item.texts
            for hashed in ngrams(text.encode("utf-8", "replace"))
        ]
        self.of_gram: dict[int, set[str]] = {}
        for hashed, name in pairs:
            self.of_gram.setdefault(hashed, set()).add(name)
        self._sorted = Sorted(np.sort(np.array(list(self.of_gram), np.uint64)))
        self.of_beginning = {sha256(item.beginning.encode()): item.id for item in items if item.beginning}
        self.of_function: dict[int, set[str]] = {}
        self.shapes: set[int] = set()
        for item in items:
            if item.program:
                for node in functions.functions(parser("python").parse(item.program.encode()), "python"):
                    if (fingerprint := functions.function_fingerprint(node)) is not None:
                        self.of_function.setdefault(fingerprint, set()).add(item.id)
                        self.shapes.add(functions.statement_signature(node))

    @property
    def seeks_in_disguise(self) -> bool:
        """Return whether the search includes 13-grams or functions."""
        return bool(self.of_gram or self.of_function)

    @property
    def seeks_anything(self) -> bool:
        """Return whether an item has a text, a function or a beginning to search for."""
        return bool(self.seeks_in_disguise or self.of_beginning)

    def beginning_of(self, text: str) -> str | None:
        """Return the item that equals the beginning of a document, up to the heading of its answer."""
        head, mark, _ = text.partition(f"{RESPONSE}\n") if self.of_beginning else ("", "", "")
        return self.of_beginning.get(sha256((head + mark).encode("utf-8", "replace"))) if mark else None

    def grams_in(self, text: str) -> Iterator[int]:
        """Yield the 13-grams of a document that are also in an item."""
        if not self.of_gram:
            return
        hashes = ngram_hashes(word_hashes(text.encode("utf-8", "replace")), NGRAM)
        yield from hashes[self._sorted.find(hashes)[0]].tolist()

    def functions_in(self, text: str, *, is_program: bool) -> Iterator[int]:
        """Yield the functions of a document that are also in an item. Functions in fences, cells
        and strings count.
        """
        if not self.of_function or "def " not in text:
            return
        for program in disguise.programs(text, is_program=is_program, is_prose=not is_program):
            data = program.encode("utf-8", "replace")
            yield from functions.in_python(data, self.shapes) & self.of_function.keys()


def find_leaks(items: Sequence[Item], corpus: Corpus, progress: Progress) -> Leaks:
    """Return the items that are in a corpus, each with the matched spans.

    Raises:
        StorageError: the corpus cannot be read.
    """
    index = _Index(items)
    grams: dict[str, set[int]] = {}
    named: dict[str, set[str]] = {}
    progress.start("leaks", None, "documents")
    for n, document in enumerate(read_documents(corpus.path) if index.seeks_anything else ()):
        # Undoing disguises takes most of the time.
        plain = disguise.plain(document.text) if index.seeks_in_disguise else document.text
        for text in {document.text, plain}:
            for hashed in index.grams_in(text):
                for item in index.of_gram[hashed]:
                    grams.setdefault(item, set()).add(hashed)
        if (item_id := index.beginning_of(document.text)) is not None:
            named.setdefault(item_id, set()).add(f"the question of {document.source}/{document.path}")
        for hashed in index.functions_in(plain, is_program=document.path.endswith(".py")):
            for item in index.of_function[hashed]:
                named.setdefault(item, set()).add(f"a function of {document.source}/{document.path}")
        if n % 1000 == 0:
            progress.advance(n)
    for one in items:
        if one.is_of_corpus and named.pop(one.id, None) is None:
            named[one.id] = {"no document of the corpus begins so"}
    dropped = {
        item: [*_spans(index.items[item], grams.get(item, set())), *sorted(named.get(item, set()))]
        for item in sorted({*grams, *named})
    }
    return Leaks(is_checked=True, against=corpus.root, dropped=dropped)


def _spans(item: Item, hashes: Set[int]) -> list[str]:
    """Return the parts of an item's texts that matched. Overlapping parts are joined."""
    spans = []
    for text in item.texts:
        data = text.encode("utf-8", "replace")
        words = [match.span() for match in _WORD.finditer(data)]
        found = ngram_hashes(word_hashes(data), NGRAM).tolist()
        first, last = -1, -1
        for place in [i for i, hashed in enumerate(found) if hashed in hashes]:
            if first >= 0 and place > last:
                spans.append(_text(data, words, first, last))
                first = -1
            first = place if first < 0 else first
            last = place + NGRAM
        if first >= 0:
            spans.append(_text(data, words, first, last))
    return list(dict.fromkeys(spans))


def _text(data: bytes, words: list[tuple[int, int]], first: int, end: int) -> str:
    return data[words[first][0] : words[end - 1][1]].decode("utf-8", "replace")[:MAX_SPAN]
