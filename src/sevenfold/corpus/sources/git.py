"""Read a git repository at one commit from its objects: `ls-tree` and `cat-file`, without work
tree, hooks or network.

A commit determines its bytes, and every object is hashed (`git_objects`). The machine has no
influence: attributes, replacements, filters and configuration are not used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from sevenfold.corpus.archives.entry import faulty, safe_path, shown
from sevenfold.corpus.document import SourceDocument, SourceOrigin, entry_document
from sevenfold.corpus.globs import chooser
from sevenfold.corpus.licences import Look, Seen, Survey, read_through
from sevenfold.corpus.licences.wording.licence_text import MAX_LICENCE_BYTES
from sevenfold.corpus.sources.git_objects import Objects, TreeEntry, open_objects
from sevenfold.recipe.corpus_schema import GitSource


def read_git(source: GitSource, base: Path, max_bytes: int) -> Iterator[SourceDocument]:
    """Yield the documents of a repository at a commit, by path compared as bytes.

    Raises:
        StorageError: no such repository, no such commit, or an object is missing or damaged.
        UsageError: git is not installed.
    """
    wants = chooser(source.include, source.exclude)
    repository = base / source.path
    survey = Survey(None, source.licence)
    origin = SourceOrigin(
        source=f"git:{source.path}",
        version=source.commit,
        licence=None,
        licence_evidence="",
        domain=source.domain,
    )
    with open_objects(repository) as objects:
        entries = objects.tree(source.commit)
        read_through(survey, _look_at(entries, objects))
        for entry in entries:
            path = safe_path(entry.name)
            if path is None:
                yield entry_document(origin, faulty(entry.name, "unsafe_path"))
            elif not wants(shown(path)):
                continue
            elif not entry.is_file:
                yield entry_document(origin, faulty(path, "link"))
            else:
                found = objects.read(entry.object, shown(path), max_bytes)
                yield entry_document(origin.under(survey.licence_of(path, found.data)), found)


def _look_at(entries: list[TreeEntry], objects: Objects) -> Look:
    """Return the view that a licence survey has of a tree. Links are blobs that hold a path."""
    by_path = {path: entry for entry in entries if (path := safe_path(entry.name))}

    def look(wanted: Callable[[str], bool]) -> Iterator[Seen]:
        for path, entry in by_path.items():
            is_link = entry.is_blob and not entry.is_file
            if not is_link and not wanted(path):
                continue
            data = objects.read(entry.object, path, MAX_LICENCE_BYTES).data if entry.is_blob else None
            target = os.fsdecode(data) if is_link and data is not None else None
            yield Seen(path, None, target) if target is not None else Seen(path, data)

    return look
