"""Where documents come from. A source yields every document that it sees, in one canonical order.

It judges nothing but what only the reader can know: that a file cannot be read, or is longer than the limit.
Canonical order: sources as the recipe lists them; within a source by path, compared as bytes (JSONL: by
line). The order in which a file system lists a directory is never seen outside. Memory: one document.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import platform
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from sevenfold.core.errors import RecipeError, StorageError, storage, storage_error
from sevenfold.core.hashing import sha256
from sevenfold.recipe.schema import (
    DirectorySource,
    JsonlSource,
    PinnedSource,
    Source,
    StdlibSource,
    SyntheticSource,
)

# Test folders repeat themselves and hold broken text on purpose; the others are not the standard library.
STDLIB_EXCLUDED_DIRECTORIES = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
)
# Written when the interpreter was built, with that machine's paths in it.
STDLIB_EXCLUDED_FILES = "_sysconfigdata*.py"
STDLIB_LICENCE = "PSF-2.0"
_PSF_TITLE = b"PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2"

_EXTENSIONS = {
    "bash": "bash sh", "c": "c h", "cpp": "cc cpp hpp", "css": "css", "go": "go", "html": "html",
    "java": "java", "javascript": "js mjs", "json": "json", "markdown": "md", "python": "py pyi",
    "restructuredtext": "rst", "rust": "rs", "sql": "sql", "text": "txt", "toml": "toml",
    "typescript": "ts", "yaml": "yaml yml",
}  # fmt: skip
LANGUAGES = {
    f".{ending}": language for language, endings in _EXTENSIONS.items() for ending in endings.split()
}

_BLOCK = 1 << 20


Problem = Literal["unreadable", "too_large"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What the documents of one source share. `licence` is as declared, None when nothing declares one."""

    source: str
    version: str
    licence: str | None
    licence_evidence: str
    domain: str


@dataclass(frozen=True, slots=True)
class Found:
    """One document as its source holds it. `data` is None exactly when `problem` says why."""

    origin: Origin
    path: str
    n_bytes: int
    sha256: str
    data: bytes | None
    problem: Problem | None = None

    @property
    def language(self) -> str:
        """Language by file extension, "unknown" when the table has none."""
        return LANGUAGES.get(PurePosixPath(self.path).suffix.lower(), "unknown")


def read_source(source: Source, base: Path, max_bytes: int) -> Iterator[Found]:
    """Every document of a source, in canonical order.

    Args:
        source: one entry of `corpus.sources`.
        base: directory of the recipe; relative paths start there.
        max_bytes: a longer document is yielded without its bytes, as too_large.

    Raises:
        StorageError: the source as a whole is missing or cannot be listed, or is pinned (not fetched yet).
        RecipeError: the source's settings contradict each other.
    """
    if isinstance(source, StdlibSource):
        yield from _read_stdlib(source, max_bytes)
    elif isinstance(source, DirectorySource):
        yield from _read_directory(source, base, max_bytes)
    elif isinstance(source, JsonlSource):
        yield from _read_jsonl(source, base, max_bytes)
    elif isinstance(source, SyntheticSource):
        from sevenfold.corpus.synthetic.source import read_synthetic  # it yields this module's `Found`

        yield from read_synthetic(source, base, max_bytes)
    elif isinstance(source, PinnedSource):
        raise StorageError(
            "pinned sources are planned but not fetched by this version",
            where=source.path,
            remedy="`s7 plan` sizes this recipe; to build it, use stdlib, directory or jsonl sources",
        )


def _read_stdlib(source: StdlibSource, max_bytes: int) -> Iterator[Found]:
    root = Path(sysconfig.get_path("stdlib"))
    licence, evidence = stdlib_licence(root)
    origin = Origin(
        source="stdlib",
        version=f"{platform.python_implementation()} {platform.python_version()}",
        licence=licence,
        licence_evidence=evidence,
        domain=source.domain,
    )

    def wanted(path: PurePosixPath) -> bool:
        return path.suffix == ".py" and not fnmatch.fnmatchcase(path.name, STDLIB_EXCLUDED_FILES)

    for path, file in _walk(root, wanted, STDLIB_EXCLUDED_DIRECTORIES):
        yield _read_file(origin, path, file, max_bytes)


def stdlib_licence(root: Path) -> tuple[str | None, str]:
    """Licence of the standard library under `root`, and how it is known; None when it cannot be told."""
    about = f"{platform.python_implementation()} {platform.python_version()}"
    if platform.python_implementation() != "CPython":
        return None, f"{about}: only CPython's own library is known to be {STDLIB_LICENCE}"
    for name in ("LICENSE.txt", "LICENSE"):
        try:
            text = (root / name).read_bytes()
        except OSError:
            continue
        if _PSF_TITLE in text:
            return STDLIB_LICENCE, f"{about}: {name} beside the library, sha256 {sha256(text).hex()}"
    if "Python Software Foundation" in sys.copyright:
        return STDLIB_LICENCE, f"{about}: copyright notice of the interpreter (sys.copyright)"
    return None, f"{about}: no licence text found"


def _read_directory(source: DirectorySource, base: Path, max_bytes: int) -> Iterator[Found]:
    patterns = [_glob_parts(text) for text in source.include]
    origin = Origin(
        source=f"directory:{source.path}",
        version="",
        licence=source.licence,
        licence_evidence="declared by the recipe",
        domain=source.domain,
    )

    def wanted(path: PurePosixPath) -> bool:
        return any(glob_matches(path.parts, pattern) for pattern in patterns)

    for path, file in _walk(base / source.path, wanted, frozenset()):
        yield _read_file(origin, path, file, max_bytes)


def _glob_parts(text: str) -> tuple[str, ...]:
    parts = PurePosixPath(text).parts
    if not parts or text.startswith("/") or ".." in parts:
        raise RecipeError(
            f"{text!r} does not stay inside the source",
            where="corpus.sources.include",
            remedy="use a relative glob such as **/*.py",
        )
    return parts


def glob_matches(names: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a relative path matches a glob, both split at slashes.

    `*`, `?` and `[...]` stay within a name, `**` stands for any number of directories (at the end: and a
    name). As in a shell, a wildcard does not match a name that starts with a dot.
    """
    if not pattern:
        return not names
    if pattern[0] == "**":
        rest = pattern[1:] or ("*",)
        if glob_matches(names, rest):
            return True
        return len(names) > 1 and not names[0].startswith(".") and glob_matches(names[1:], pattern)
    if not names or (names[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    return fnmatch.fnmatchcase(names[0], pattern[0]) and glob_matches(names[1:], pattern[1:])


def _walk(
    root: Path, wanted: Callable[[PurePosixPath], bool], excluded: frozenset[str]
) -> Iterator[tuple[str, Path]]:
    """Regular files under `root` as (path for the ledger, file), by path compared as bytes.

    A link to a directory is not entered; a link to a file counts only when it ends inside `root`.
    """
    if not root.is_dir():
        raise StorageError(
            "no such directory" if not root.exists() else "not a directory",
            where=str(root),
            remedy="check corpus.sources in the recipe; a relative path starts at the recipe's own directory",
        )

    def refuse(error: OSError) -> None:
        # A directory that cannot be listed would take its documents out without a reason.
        raise storage_error(error)

    real_root = root.resolve()
    files: list[tuple[bytes, Path]] = []
    for directory, subdirectories, names in os.walk(root, onerror=refuse):
        subdirectories[:] = [name for name in subdirectories if name not in excluded]
        for name in names:
            file = Path(directory, name)
            relative = file.relative_to(root)
            if wanted(PurePosixPath(relative.as_posix())) and _is_inside(file, real_root):
                files.append((os.fsencode(relative.as_posix()), file))
    for key, file in sorted(files):
        yield key.decode("utf-8", "backslashreplace"), file


def _is_inside(file: Path, real_root: Path) -> bool:
    if not file.is_symlink():
        return file.is_file()
    try:
        target = file.resolve(strict=True)
    except (OSError, RuntimeError):  # a dangling link, or a loop of links
        return False
    return target.is_relative_to(real_root) and target.is_file()


def _read_file(origin: Origin, path: str, file: Path, max_bytes: int) -> Found:
    try:
        with file.open("rb") as handle:
            data = handle.read(max_bytes + 1)
            if len(data) <= max_bytes:
                return Found(origin, path, len(data), sha256(data).hex(), data)
            hasher, n_bytes = hashlib.sha256(data), len(data)
            while block := handle.read(_BLOCK):
                hasher.update(block)
                n_bytes += len(block)
            return Found(origin, path, n_bytes, hasher.hexdigest(), None, "too_large")
    except OSError:
        return Found(origin, path, 0, "", None, "unreadable")


def _read_jsonl(source: JsonlSource, base: Path, max_bytes: int) -> Iterator[Found]:
    if (source.licence is None) == (source.licence_key is None):
        raise RecipeError(
            "a jsonl source needs either `licence` or `licence_key`, and not both",
            where=f"corpus.sources ({source.path})",
            remedy="declare one licence for all records, or name the key that holds each record's",
        )
    file = base / source.path
    origin = Origin(
        source=f"jsonl:{source.path}",
        version="",
        licence=source.licence,
        licence_evidence="declared by the recipe"
        if source.licence
        else f"key {source.licence_key!r} of the record",
        domain=source.domain,
    )
    # JSON may spend six characters on one byte of text (\u0000); the rest is room for the other keys.
    limit = 6 * max_bytes + _BLOCK
    with storage(file), file.open("rb") as handle:
        for number, line, n_bytes in _lines(handle, limit):
            path = f"{PurePosixPath(source.path).name}:{number}"
            if n_bytes > limit:
                yield Found(origin, path, n_bytes, "", None, "too_large")
            elif line.strip():
                yield _parse_record(source, origin, path, line, max_bytes)


def _lines(handle: IO[bytes], limit: int) -> Iterator[tuple[int, bytes, int]]:
    """(number from 1, at most `limit` + 1 bytes of the line, its length); a longer line is never held."""
    number = 0
    while line := handle.readline(limit + 1):
        number += 1
        n_bytes, tail = len(line), line
        while len(tail) > limit and not tail.endswith(b"\n"):
            tail = handle.readline(limit + 1)
            n_bytes += len(tail)
        yield number, line, n_bytes


def _parse_record(source: JsonlSource, origin: Origin, path: str, line: bytes, max_bytes: int) -> Found:
    try:
        record = json.loads(line)
        text = record[source.text_key]
        if not isinstance(text, str):
            raise TypeError(source.text_key)
    except (ValueError, TypeError, KeyError, RecursionError):
        return Found(origin, path, len(line), sha256(line).hex(), None, "unreadable")
    if source.licence_key is not None:
        licence = record.get(source.licence_key)
        origin = replace(origin, licence=licence if isinstance(licence, str) else None)
    # Half of a surrogate pair, written as an escape, becomes bytes that are not UTF-8: dropped as such later.
    data = text.encode("utf-8", "surrogatepass")
    if len(data) > max_bytes:
        return Found(origin, path, len(data), sha256(data).hex(), None, "too_large")
    return Found(origin, path, len(data), sha256(data).hex(), data)
