"""A directory tree under one licence that the recipe declares; a file that
states another one is under both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sevenfold.corpus.document import Origin, SourceDocument, read_file
from sevenfold.corpus.globs import glob_matches, glob_parts, walk_tree
from sevenfold.recipe.corpus_schema import DirectorySource


def read_directory(source: DirectorySource, base: Path, max_bytes: int) -> Iterator[SourceDocument]:
    """Yield the documents of a directory.

    Raises StorageError and RecipeError as `read_source` does.
    """
    patterns = [glob_parts(text) for text in source.include]
    origin = Origin(
        source=f"directory:{source.path}",
        version="",
        licence=source.licence,
        licence_evidence="declared by the recipe",
        domain=source.domain,
    )

    def wanted(path: str) -> bool:
        parts = tuple(path.split("/"))
        return any(glob_matches(parts, pattern) for pattern in patterns)

    for path, file in walk_tree(base / source.path, wanted, frozenset()):
        yield with_own_licence(read_file(origin, path, file, max_bytes))


def with_own_licence(found: SourceDocument) -> SourceDocument:
    """Return the document under what it states itself, too."""
    if found.data is None:
        return found
    origin = found.origin.with_own(found.data)
    return found if origin is found.origin else replace(found, origin=origin)
