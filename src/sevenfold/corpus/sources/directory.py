"""Read a directory tree under one licence that the recipe declares, and under what its own files
say of licences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from sevenfold.corpus.document import SourceDocument, SourceOrigin, read_file
from sevenfold.corpus.globs import glob_matches, glob_parts, require_directory, walk_tree
from sevenfold.corpus.licences import Licence, Look, Seen, Survey, read_through
from sevenfold.corpus.sources.on_disk import path_itself, seen_on_disk, tree_paths
from sevenfold.recipe.corpus_schema import DirectorySource


def read_directory(source: DirectorySource, base: Path, max_bytes: int) -> Iterator[SourceDocument]:
    """Yield the documents of a directory.

    Raises StorageError and RecipeError as `read_source` does.
    """
    patterns = [glob_parts(text) for text in source.include]
    origin = SourceOrigin(
        source=f"directory:{source.path}",
        version="",
        licence=source.licence,
        licence_evidence="declared by the recipe",
        domain=source.domain,
    )

    def wanted(path: str) -> bool:
        parts = tuple(path.split("/"))
        return any(glob_matches(parts, pattern) for pattern in patterns)

    root = require_directory(base / source.path)
    survey = Survey(stated=Licence(source.licence, origin.licence_evidence))
    read_through(survey, _look_at(root))
    real_root = root.resolve()
    for path, file in walk_tree(root, wanted, frozenset()):
        # A link to a file is read as the file, which may be in a folder under another licence.
        itself = path_itself(file, real_root) if file.is_symlink() else None
        licence = survey.licence_of(path, None, itself=itself)
        yield with_own_licence(read_file(origin.under(licence), path, file, max_bytes))


def _look_at(root: Path) -> Look:
    """Return the view that a licence survey has of a tree on disk."""

    def look(wanted: Callable[[str], bool]) -> Iterator[Seen]:
        for path, file in tree_paths(root):
            if seen := seen_on_disk(path, file, is_wanted=wanted(path)):
                yield seen

    return look


def with_own_licence(found: SourceDocument) -> SourceDocument:
    """Return the document with the licence that it states itself added."""
    if found.data is None:
        return found
    origin = found.origin.with_own(found.data)
    return found if origin is found.origin else replace(found, origin=origin)
