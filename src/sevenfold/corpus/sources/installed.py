"""Python packages as they are installed: the files that each one's own record lists, under the
licences that it declares.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from sevenfold.core.errors import StorageError
from sevenfold.corpus.archives.entry import faulty, safe_path, shown
from sevenfold.corpus.document import Origin, SourceDocument, entry_document, read_file
from sevenfold.corpus.globs import chooser
from sevenfold.corpus.licences import Survey
from sevenfold.corpus.licences.survey import MAX_LICENCE_BYTES
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
        files = _files(name, found)
        survey = Survey()
        _look_through(survey, dict(files))
        origin = Origin(
            source=f"installed:{name}",
            version=found.version,
            licence=None,
            licence_evidence="",
            domain=source.domain,
        )
        is_empty = True
        for path, file in files:
            if wants(path):
                is_empty = False
                document = read_file(origin, path, file, max_bytes)
                licence = survey.licence_of(path, document.data)
                yield SourceDocument(
                    origin.under(licence),
                    path,
                    document.n_bytes,
                    document.sha256,
                    document.data,
                    document.problem,
                )
        if is_empty:
            yield entry_document(origin, faulty(name, "no_documents"))


def _look_through(survey: Survey, files: dict[str, Path]) -> None:
    """Give a survey what it wants; a link that ends inside the installation is its target, another
    is unknown.
    """
    for path, file in files.items():
        if survey.wants(path) and (file.is_symlink() or file.exists()):
            survey.add(path, _head(file))
    for path in sorted(survey.unread() & files.keys()):
        survey.add(path, _head(files[path]))
    survey.missing()


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
    """Return (path, file) of what the record lists inside the installation, in canonical order."""
    if found.files is None:
        raise StorageError(
            f"the package {name!r} does not record its files",
            where="corpus.sources",
            remedy="install it with pip",
        )
    root = Path(str(found.locate_file(""))).resolve()
    listed = {}
    for entry in found.files:
        path = safe_path(str(entry))
        file = Path(str(found.locate_file(entry)))
        if path is not None and _is_inside(file, root):
            listed[path] = file
    return [(shown(path), listed[path]) for path in sorted(listed, key=os.fsencode)]


def _is_inside(file: Path, root: Path) -> bool:
    try:
        return file.resolve().is_relative_to(root)
    except (OSError, RuntimeError):
        return False


def _head(file: Path) -> bytes | None:
    try:
        with file.open("rb") as handle:
            return handle.read(MAX_LICENCE_BYTES + 1)
    except OSError:
        return None
