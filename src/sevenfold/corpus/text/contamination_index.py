"""Build and read the hash file of evaluation sets: 13-grams of words, and functions without names
(C14).

The file holds no text of a set. `build` reads the sets below a directory. `read` returns the hashes
that the step `benchmark` compares with. A recipe names the SHA-256 of the file, so the digest of
the recipe binds the sets. The same sets give the same bytes. Format: specs/dataset.md.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from sevenfold.core.errors import StorageError, storage
from sevenfold.core.files import read_bytes, write_bytes
from sevenfold.core.hashing import Json, canonical_json, sha256
from sevenfold.core.ownership import refuse_foreign
from sevenfold.corpus.text import functions
from sevenfold.corpus.text.grammars import parser
from sevenfold.corpus.text.ngrams import Filter, ngram_hashes, unique, word_hashes

MAGIC, VERSION = b"S7EH", 1
NGRAM = 13
# Different words that a 13-gram needs; one with fewer is a row of numbers or a rule of dashes.
MIN_DISTINCT = 6
# Words in it that are not numbers; ascending numbers occur everywhere.
MIN_NAMES = 2
KINDS = ("ngrams", "functions", "shapes")
_HEADER = struct.Struct("<4sHHI")
_NUMBER = re.compile(rb"(?<![\w\x80-\xff])[0-9]+(?![\w\x80-\xff])")


@dataclass(frozen=True, slots=True)
class EvaluationItem:
    """One task: texts to search for as they are, and a program whose functions are searched for."""

    texts: tuple[str, ...]
    program: str = ""


def _lines(data: bytes) -> Iterator[Json]:
    yield from (json.loads(line) for line in data.splitlines() if line.strip())


def _human_eval(data: bytes) -> Iterator[EvaluationItem]:
    for row in _lines(gzip.decompress(data)):
        program = row["prompt"] + row["canonical_solution"] + row.get("suffix", "")
        yield EvaluationItem((program, row["test"]), program)


def _mbpp(data: bytes) -> Iterator[EvaluationItem]:
    for row in _lines(data):
        yield EvaluationItem((row["text"], row["code"], "\n".join(row["test_list"])), row["code"])


def _rows(*keys: str) -> Callable[[bytes], Iterator[EvaluationItem]]:
    def read(data: bytes) -> Iterator[EvaluationItem]:
        for row in _lines(data):
            yield EvaluationItem(tuple(row[key] for key in keys))

    return read


def _mmlu(data: bytes) -> Iterator[EvaluationItem]:
    for row in csv.reader(io.StringIO(data.decode("utf-8"))):
        yield EvaluationItem((" ".join(row[:-1]),))


def _hellaswag(data: bytes) -> Iterator[EvaluationItem]:
    lines = bz2.decompress(data).decode("utf-8").splitlines()
    for start in range(0, len(lines) - 5, 6):
        context, label, *endings = lines[start : start + 6]
        # The right ending is original text. The wrong ones were written for the test.
        yield EvaluationItem((f"{context} {endings[int(label)]}", *endings))


def _band(data: bytes) -> Iterator[EvaluationItem]:
    """Yield the functions that the capability band holds out; its last line has no item."""
    for row in _lines(data):
        if row.get("program"):
            yield EvaluationItem((), row["program"])


# Name -> (glob below the directory, reader). The training part of GSM8K is not listed, because it
# may be trained on.
SETS: dict[str, tuple[str, Callable[[bytes], Iterator[EvaluationItem]]]] = {
    "band": ("band/*.jsonl", _band),
    "gsm8k": ("gsm8k/test.jsonl", _rows("question", "answer")),
    "hellaswag": ("hellaswag/*.txt.bz2", _hellaswag),
    "humaneval": ("humaneval/*.jsonl.gz", _human_eval),
    "humaneval_infilling": ("humaneval_infilling/*.jsonl.gz", _human_eval),
    "math500": ("math500/test.jsonl", _rows("problem", "solution")),
    "mbpp": ("mbpp/mbpp.jsonl", _mbpp),
    "mmlu": ("mmlu/*/*.csv", _mmlu),
    "multipl_e": ("multipl_e/*.jsonl", _rows("prompt", "tests")),
}


def ngrams(data: bytes) -> np.ndarray:
    """Return u64, ascending: 13-grams of a text with at least MIN_DISTINCT different words, at
    least MIN_NAMES of which are not numbers.
    """
    words = word_hashes(data)
    if len(words) < NGRAM:
        return np.empty(0, np.uint64)
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(words, NGRAM), axis=1)
    n_distinct = 1 + (windows[:, 1:] != windows[:, :-1]).sum(axis=1)
    is_name = word_hashes(_NUMBER.sub(b"0", data)) != word_hashes(b"0")
    n_names = np.lib.stride_tricks.sliding_window_view(is_name, NGRAM).sum(axis=1)
    return unique(ngram_hashes(words, NGRAM)[(n_distinct >= MIN_DISTINCT) & (n_names >= MIN_NAMES)])


def build(directory: Path, path: Path) -> Json:
    """Hash the sets below `directory` into the file `path`. Return a description of the file, with
    its SHA-256.

    Raises:
        StorageError: no set is present, one cannot be read, or the file cannot be written.
    """
    refuse_foreign(path, lambda held: held.startswith(MAGIC), "file of evaluation hashes")
    summary, arrays = [], []
    for name, (glob, reader) in sorted(SETS.items()):
        files = sorted(directory.glob(glob))
        if not files:
            continue
        items: list[EvaluationItem] = []
        for file in files:
            try:
                items += reader(read_bytes(file))
            except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError) as error:
                raise StorageError(f"not the evaluation set {name}: {error!r}", where=str(file)) from error
        row, hashes = _hash_set(name, items)
        summary.append(row)
        arrays += [hashes[kind] for kind in KINDS]
    if not summary:
        raise StorageError(
            "no evaluation set found",
            where=str(directory),
            remedy=f"expected one of {', '.join(glob for glob, _ in SETS.values())}",
        )
    head = canonical_json({"ngram": NGRAM, "min_nodes": functions.MIN_NODES, "sets": summary})
    data = _HEADER.pack(MAGIC, VERSION, 0, len(head)) + head
    data += b"".join(array.astype("<u8").tobytes() for array in arrays)
    write_bytes(path, data)
    return {"sets": summary, "sha256": sha256(data).hex(), "n_bytes": len(data)}


def _hash_set(name: str, items: list[EvaluationItem]) -> tuple[dict[str, Json], dict[str, np.ndarray]]:
    nothing = np.empty(0, np.uint64)
    grams = [np.concatenate([nothing, *(ngrams(text.encode()) for text in item.texts)]) for item in items]
    nodes = [
        node
        for item in items
        if item.program
        for node in functions.functions(parser("python").parse(item.program.encode()), "python")
    ]
    known = {functions.function_fingerprint(node): functions.statement_signature(node) for node in nodes}
    known.pop(None, None)
    hashes = {
        "ngrams": unique(np.concatenate([nothing, *grams])),
        "functions": unique(np.array(list(known), np.uint64)),
        "shapes": unique(np.array(list(known.values()), np.uint64)),
    }
    n_short = sum(1 for found in grams if not len(found))
    row: dict[str, Json] = {"name": name, "n_items": len(items), "n_items_too_short": n_short}
    return row | {f"n_{kind}": len(array) for kind, array in hashes.items()}, hashes


@dataclass(frozen=True)
class ContaminationIndex:
    """Hashes of each set, ascending: u64 arrays by set and kind."""

    sets: dict[str, dict[str, np.ndarray]]
    sha256: str

    def all(self, kind: str) -> np.ndarray:
        """Return the hashes of one kind of all sets, ascending."""
        return unique(np.concatenate([hashes[kind] for hashes in self.sets.values()]))

    @cached_property
    def _ngrams(self) -> tuple[np.ndarray, Filter]:
        """Return all 13-grams, and a filter that quickly excludes most others."""
        hashes = self.all("ngrams")
        return hashes, Filter(hashes)

    @cached_property
    def function_hashes(self) -> tuple[frozenset[int], frozenset[int]]:
        """Return the shapes and the hashes of all functions."""
        return frozenset(self.all("shapes").tolist()), frozenset(self.all("functions").tolist())

    def common_ngrams(self, words: np.ndarray) -> np.ndarray:
        """Return u64, each once: those 13-grams of the words (given as hashes) that a set contains."""
        hashes, known = self._ngrams
        likely = known.likely(words, NGRAM)
        found: np.ndarray = likely[is_in(likely, hashes)]
        return found


def is_in(values: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Return for each value whether the ascending `hashes` contain it."""
    if not len(hashes) or not len(values):
        return np.zeros(len(values), bool)
    places = np.minimum(np.searchsorted(hashes, values), len(hashes) - 1)
    found: np.ndarray = hashes[places] == values
    return found


def read(path: Path, expected: str) -> ContaminationIndex:
    """Read a hash file.

    Raises StorageError: it is missing or damaged, or its SHA-256 is not the one in the recipe.
    """
    data = read_bytes(path)
    if (found := sha256(data).hex()) != expected:
        raise StorageError(
            f"SHA-256 {found}, the recipe names {expected}",
            where=str(path),
            remedy="make it again with `s7 eval-hashes`, or name its digest in corpus.steps.decontaminate",
        )
    with storage(path):
        magic, version, reserved, n_head = _HEADER.unpack_from(data)
        if (magic, version, reserved) != (MAGIC, VERSION, 0):
            raise StorageError(
                f"not a file of evaluation hashes of version {VERSION}",
                where=str(path),
                remedy="make it again with `s7 eval-hashes`",
            )
        place: int = _HEADER.size + n_head
        sets: dict[str, dict[str, np.ndarray]] = {}
        for row in json.loads(data[_HEADER.size : place])["sets"]:
            sets[row["name"]] = {}
            for kind in KINDS:
                array = np.frombuffer(data, "<u8", row[f"n_{kind}"], place).astype(np.uint64)
                sets[row["name"]][kind] = array
                place += array.nbytes
    return ContaminationIndex(sets, expected)
