"""Read pinned packages: archives of the store that `s7 corpus fetch` fills, in memory, each file
under its own licence.

A package is read twice: first for its statements about licences, then for its documents. Its hash
is checked before, so the pinned bytes are read.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sevenfold.core.errors import StorageError, storage
from sevenfold.corpus.archives import Entry, read_archive
from sevenfold.corpus.archives.entry import DAMAGE, faulty
from sevenfold.corpus.document import SourceDocument, SourceOrigin, entry_document
from sevenfold.corpus.fetch.grammar import KINDS
from sevenfold.corpus.fetch.lock import Pin, read_lock
from sevenfold.corpus.fetch.store import PackageStore, archive_name, file_digest, store_directory
from sevenfold.corpus.globs import chooser, glob_matches
from sevenfold.corpus.licences import Licence, Seen, Survey, follow, is_valid
from sevenfold.corpus.licences.wording.licence_text import MAX_LICENCE_BYTES
from sevenfold.recipe.corpus_schema import PinnedSource

Wanted = Callable[[str], bool]

_SOURCE_TARBALL = re.compile(r".*?\.(?:orig(?:-(?P<component>[a-z0-9-]+))?\.)?tar\.\w+$")
_NAMED_AT_MOST = 5


def read_pinned(source: PinnedSource, base: Path, max_bytes: int) -> Iterator[SourceDocument]:
    """Yield the documents of the packages of a lock in its order, and within a package in the order
    of the archive.

    Raises:
        StorageError: the lock is missing, or a package is not fetched or damaged; the remedy is the
            command to run.
    """
    wants = chooser(source.include, source.exclude)
    store = PackageStore(store_directory())
    pins = selected_pins(source, base)
    _require(store, pins, base / source.path)
    for pin in pins:
        yield from read_package(store, pin, wants, source.domain, max_bytes)


def selected_pins(source: PinnedSource, base: Path) -> list[Pin]:
    """Return the packages that a source takes of its lock, in the order of the lock.

    Raises StorageError or RecipeError.
    """
    path = base / source.path
    if not path.is_file():
        raise StorageError(
            "no such lock", where=str(path), remedy=f"make one: `s7 corpus pin --out {path} pypi:NAME ...`"
        )
    pins = [pin for pin in read_lock(path) if _selected(pin, source.only)]
    if not pins:
        raise StorageError(f"no package in the lock is one of {', '.join(source.only)}", where=str(path))
    return pins


def pinned_identity(source: PinnedSource, base: Path) -> list[str]:
    """Return what decides the documents of a source besides the recipe: its pins, with every
    archive hashed again.

    Raises:
        StorageError: as `read_pinned` does.
    """
    store, identity = PackageStore(store_directory()), list[str]()
    pins = selected_pins(source, base)
    _require(store, pins, base / source.path)
    for pin in pins:
        _require_pinned_bytes(store, pin)
        identity += [pin.label, pin.file, pin.digest, pin.concluded or "", *pin.licence]
    return identity


def _selected(pin: Pin, only: Sequence[str]) -> bool:
    return not only or any(
        pin.kind == name if name in KINDS else glob_matches((pin.name,), (name,)) for name in only
    )


def _require(store: PackageStore, pins: list[Pin], lock: Path) -> None:
    absent = [pin for pin in pins if store.files(pin) is None]
    if absent:
        named = ", ".join(pin.label for pin in absent[:_NAMED_AT_MOST])
        more = f" and {len(absent) - _NAMED_AT_MOST} more" if len(absent) > _NAMED_AT_MOST else ""
        raise StorageError(
            f"{len(absent)} of {len(pins)} packages are not fetched: {named}{more}",
            where=str(lock),
            remedy=f"run `s7 corpus fetch {lock}`",
        )


@dataclass(frozen=True, slots=True)
class _Archive:
    """One archive of a package. `prefix` replaces its first path component; None keeps it."""

    name: str
    path: Path
    prefix: str | None


def read_package(
    store: PackageStore, pin: Pin, wants: Wanted, domain: str, max_bytes: int
) -> Iterator[SourceDocument]:
    """Yield the documents of one package whose path `wants` accepts, each under its licence."""
    files = _require_pinned_bytes(store, pin)
    survey, archives = survey_package(pin, files)
    origin = SourceOrigin(
        source=pin.source, version=pin.version, licence=None, licence_evidence="", domain=domain
    )
    is_empty = True
    for archive in archives:
        if pin.kind == "dsc" and re.search(r"\.debian\.tar\.\w+$", archive.name):
            # Packaging files say what the licences are, and are not part of the work.
            continue
        for entry in _entries(archive, wants, max_bytes):
            is_empty = False
            yield entry_document(origin.under(survey.licence_of(entry.path, entry.data)), entry)
    if is_empty:
        yield entry_document(origin, faulty(archive_name(pin), "no_documents"))


def _require_pinned_bytes(store: PackageStore, pin: Pin) -> list[tuple[str, Path]]:
    """Return (name, path) of the archives of a package, each hashed. Raises StorageError."""
    files = store.files(pin) or []
    for _, path in [("", store.pinned(pin)), *files]:
        algorithm, _, digest = path.name.partition("-")
        if file_digest(path, algorithm) != digest:
            raise StorageError(
                f"{pin.label}: the stored file is not the one that was pinned",
                where=str(path),
                remedy="run `s7 corpus fetch` on the lock: it gets the file again",
            )
    return files


def survey_package(pin: Pin, files: list[tuple[str, Path]]) -> tuple[Survey, list[_Archive]]:
    """Return the licence survey of a package, and its archives in the form in which they are read."""
    said = " AND ".join(pin.licence)
    declared = Licence(said, "as the lock states it") if len(pin.licence) == 1 and is_valid(said) else None
    is_debian = pin.kind in ("deb", "dsc")
    survey = Survey(declared, pin.concluded, binary=pin.kind == "deb", judged=is_debian)
    for name, path in files:
        if name.endswith(".diff.gz"):
            _survey_diff(survey, path)
    archives = [_survey(survey, archive) for archive in _archives(pin, files)]
    follow(survey, lambda wanted: (seen for archive in archives for seen in _look_into(archive, wanted)))
    return survey, archives


def _archives(pin: Pin, files: list[tuple[str, Path]]) -> list[_Archive]:
    if pin.kind != "dsc":
        strip = "" if pin.kind == "npm" or pin.file.endswith(".tar.gz") else None
        return [_Archive(name, path, strip) for name, path in files]
    found = [(name, path, _SOURCE_TARBALL.fullmatch(name)) for name, path in files]
    return [
        _Archive(name, path, None if ".debian.tar." in name else match["component"] or "")
        for name, path, match in found
        if match
    ]


def _renamed(path: str, prefix: str | None) -> str:
    if prefix is None:
        return path
    first, _, rest = path.partition("/")
    return f"{prefix}/{rest or first}" if prefix else rest or first


def _entries(archive: _Archive, wants: Wanted, max_bytes: int) -> Iterator[Entry]:
    with storage(archive.path), archive.path.open("rb") as file:
        for entry in read_archive(
            file, archive.name, lambda path: wants(_renamed(path, archive.prefix)), max_bytes
        ):
            yield entry if entry.fault else replace(entry, path=_renamed(entry.path, archive.prefix))


def _survey(survey: Survey, archive: _Archive) -> _Archive:
    """Feed the survey, and find out whether a source tarball has the one top directory that
    unpacking would remove.
    """
    tops: set[str] = set()

    def wants(path: str) -> bool:
        tops.add(path.partition("/")[0] if "/" in path else "")
        return survey.wants(_renamed(path, archive.prefix)) or survey.wants(path)

    entries = _read(archive, wants)
    if archive.prefix is not None and (len(tops) != 1 or "" in tops):
        archive = replace(archive, prefix=None)
    for seen in _seen(archive, entries, survey.wants):
        survey.tell(seen)
    return archive


def _look_into(archive: _Archive, wanted: Wanted) -> Iterator[Seen]:
    """Yield the files of an archive that a survey asks for, and all links."""
    return _seen(archive, _read(archive, lambda path: wanted(_renamed(path, archive.prefix))), wanted)


def _read(archive: _Archive, wanted: Wanted) -> list[Entry]:
    with storage(archive.path), archive.path.open("rb") as file:
        return list(read_archive(file, archive.name, wanted, MAX_LICENCE_BYTES, links=True))


def _seen(archive: _Archive, entries: list[Entry], wanted: Wanted) -> Iterator[Seen]:
    """Yield files, links, and entries that cannot be read."""
    for entry in entries:
        path = _renamed(entry.path, archive.prefix)
        if entry.target is not None or wanted(path):
            yield Seen(path, entry.data, entry.target)


def _survey_diff(survey: Survey, path: Path) -> None:
    """Survey `debian/copyright` in the single patch that held the changes of Debian before there
    was a debian.tar.
    """
    lines: list[bytes] = []
    inside = False
    try:
        with gzip.open(path) as diff:
            for line in diff:
                if line.startswith(b"+++ "):
                    inside = line.split()[1].endswith(b"/debian/copyright")
                elif inside and line.startswith(b"+"):
                    lines.append(line[1:])
    except DAMAGE:
        return
    if lines:
        survey.add("debian/copyright", b"".join(lines))
