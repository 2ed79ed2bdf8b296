"""Read installed Python packages: the files in the record of each package, under its declared
licences.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from sevenfold.core.errors import StorageError
from sevenfold.core.process.log import one_line
from sevenfold.corpus.archives.entry import faulty, safe_path, shown
from sevenfold.corpus.document import SourceDocument, SourceOrigin, entry_document, read_file
from sevenfold.corpus.globs import chooser
from sevenfold.corpus.licences import Look, Seen, Survey, read_through
from sevenfold.corpus.sources.on_disk import link_on_disk, path_itself, seen_on_disk
from sevenfold.recipe.corpus_schema import InstalledSource


def read_installed(source: InstalledSource, _base: Path, max_bytes: int) -> Iterator[SourceDocument]:
    """Yield the documents of installed packages, in the recipe's order; within
    one by path, compared as bytes.

    Raises:
        StorageError: a package is not installed, or does not record its files.
    """
    wants = chooser(source.include, source.exclude)
    for name in source.packages:
        found = _distribution(name)
        root = Path(str(found.locate_file("")))
        files, real_root = _files(name, found), root.resolve()
        # A record lists no folders, so links among them are looked up.
        survey = Survey(link_at=partial(link_on_disk, root))
        read_through(survey, _look_at(files))
        origin = SourceOrigin(
            source=f"installed:{name}",
            version=one_line(found.version),
            licence=None,
            licence_evidence="",
            domain=source.domain,
        )
        is_empty = True
        for path, file in files:
            itself = path_itself(file, real_root)
            if itself is None or not wants(path):
                continue
            is_empty = False
            document = read_file(origin, path, file, max_bytes)
            licence = survey.licence_of(path, document.data, itself=itself)
            yield replace(document, origin=origin.under(licence))
        if is_empty:
            yield entry_document(origin, faulty(name, "no_documents"))


def _look_at(files: list[tuple[str, Path]]) -> Look:
    """Return the view that a licence survey has of the files of a record."""

    def look(wanted: Callable[[str], bool]) -> Iterator[Seen]:
        for path, file in files:
            if seen := seen_on_disk(path, os.fspath(file), is_wanted=wanted(path)):
                yield seen

    return look


def _distribution(name: str) -> Distribution:
    try:
        return distribution(name)
    except (PackageNotFoundError, ValueError):
        raise StorageError(
            f"the package {name!r} is not installed beside this interpreter",
            where="corpus.sources",
            remedy=f"pip install {name}, or take it out of the recipe",
        ) from None


def _files(name: str, found: Distribution) -> list[tuple[str, Path]]:
    """Return (path, file) of the entries of the record below the installation, in canonical order."""
    if found.files is None:
        raise StorageError(
            f"the package {name!r} does not record its files",
            where="corpus.sources",
            remedy="install it with pip",
        )
    listed = {}
    for entry in found.files:
        path = safe_path(str(entry))
        if path is not None:
            listed[path] = Path(str(found.locate_file(entry)))
    return [(shown(path), listed[path]) for path in sorted(listed, key=os.fsencode)]
