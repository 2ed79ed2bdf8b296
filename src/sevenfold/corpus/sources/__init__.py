"""Read documents from their sources. A source yields every document that it sees, in one canonical
order.

It decides only what the reader alone can know: that a file cannot be read, or exceeds the limit.
Canonical order: sources as the recipe lists them. Within a source, files are ordered by the bytes
of their paths, records by file and line, and packages as the lock lists them, with their files in
the order of the archive. The directory order of a file system never has an effect. Memory: one
document, and the names of one package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sevenfold.corpus.document import LANGUAGES, Problem, SourceDocument, SourceOrigin, is_pointer
from sevenfold.corpus.sources.dataset import read_dataset
from sevenfold.corpus.sources.directory import read_directory
from sevenfold.corpus.sources.git import read_git
from sevenfold.corpus.sources.installed import read_installed
from sevenfold.corpus.sources.jsonl import read_jsonl
from sevenfold.corpus.sources.packages import read_pinned
from sevenfold.corpus.sources.stdlib import read_stdlib
from sevenfold.corpus.sources.synthetic import read_synthetic
from sevenfold.recipe.corpus_schema import Source

__all__ = ["LANGUAGES", "READERS", "Problem", "SourceDocument", "SourceOrigin", "read_source"]

# kind of a source -> its reader: (source, directory of the recipe, max_bytes) -> documents
READERS: Mapping[str, Callable[[Any, Path, int], Iterator[SourceDocument]]] = {
    "stdlib": read_stdlib,
    "directory": read_directory,
    "jsonl": read_jsonl,
    "lock": read_pinned,
    "installed": read_installed,
    "git": read_git,
    "dataset": read_dataset,
    "synthetic": read_synthetic,
}


def read_source(source: Source, base: Path, max_bytes: int) -> Iterator[SourceDocument]:
    """Yield every document of a source, in canonical order.

    Args:
        source: one entry of `corpus.sources`.
        base: directory of the recipe; relative paths start there.
        max_bytes: a longer document is yielded without its bytes, as too_large.

    Raises:
        StorageError: the source as a whole is missing or cannot be listed,
            or is pinned and not fetched.
        RecipeError: the source's settings contradict each other.
        UsageError: a program or a library that the source needs is not installed.
    """
    for found in READERS[source.kind](source, base, max_bytes):
        is_elsewhere = found.data is not None and is_pointer(found.data)
        yield replace(found, data=None, problem="pointer") if is_elsewhere else found
