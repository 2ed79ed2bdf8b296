"""Match globs, and walk a tree of files in canonical order without leaving it through a link."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from sevenfold.core.errors import RecipeError, StorageError, storage_error
from sevenfold.corpus.archives.entry import shown
from sevenfold.corpus.document import LANGUAGES


def glob_parts(text: str) -> tuple[str, ...]:
    """Return a glob split at slashes. Raises RecipeError for a glob that leaves the source."""
    parts = PurePosixPath(text).parts
    if not parts or text.startswith("/") or ".." in parts:
        raise RecipeError(
            f"{text!r} does not stay inside the source",
            where="corpus.sources.include",
            remedy="use a relative glob such as **/*.py",
        )
    return parts


def chooser(include: tuple[str, ...], exclude: tuple[str, ...] = ()) -> Callable[[str], bool]:
    """Return a function that decides whether a path is wanted.

    A path is wanted when a glob of `include` matches (without globs: when its extension is in the
    table) and no glob of `exclude` matches.

    Raises:
        RecipeError: a glob leaves the source.
    """
    wanted = [glob_parts(text) for text in include]
    unwanted = [glob_parts(text) for text in exclude]

    def wants(path: str) -> bool:
        parts = PurePosixPath(path).parts
        if any(glob_matches(parts, pattern) for pattern in unwanted):
            return False
        if not wanted:
            return PurePosixPath(path).suffix.lower() in LANGUAGES
        return any(glob_matches(parts, pattern) for pattern in wanted)

    return wants


def glob_matches(names: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Return whether a relative path matches a glob, both split at slashes.

    `*`, `?` and `[...]` stay within a name. `**` stands for any number of directories, and at the
    end also for a name. As in a shell, a wildcard does not match a name that starts with a dot.
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


def require_directory(root: Path) -> Path:
    """Return the directory of a source. Raises StorageError when there is none."""
    if not root.is_dir():
        raise StorageError(
            "no such directory" if not root.exists() else "not a directory",
            where=str(root),
            remedy="check corpus.sources in the recipe; a relative path starts at the recipe's own directory",
        )
    return root


def walk_tree(
    root: Path, wanted: Callable[[str], bool], excluded: frozenset[str]
) -> Iterator[tuple[str, Path]]:
    """Yield the regular files under `root` as (path for the ledger, file), ordered by the bytes of
    the path.

    A link to a directory is not entered. A link to a file counts only when it ends inside `root`.
    `wanted` receives the paths below `root`.
    """
    require_directory(root)

    def refuse(error: OSError) -> None:
        # Without this error, the documents of a directory that cannot be listed would be missing
        # without a reason.
        raise storage_error(error)

    real_root = root.resolve()
    files: list[tuple[bytes, str]] = []
    for directory, subdirectories, names in os.walk(root, onerror=refuse):
        subdirectories[:] = [name for name in subdirectories if name not in excluded]
        below = Path(directory).relative_to(root).as_posix()
        for name in names:
            relative = name if below == "." else f"{below}/{name}"
            file = f"{directory.rstrip('/')}/{name}"
            if wanted(relative) and _is_inside(file, real_root):
                files.append((os.fsencode(relative), file))
    for key, file in sorted(files):
        yield shown(os.fsdecode(key)), Path(file)


def _is_inside(file: str, real_root: Path) -> bool:
    try:
        mode = os.lstat(file).st_mode
    except (FileNotFoundError, NotADirectoryError):  # gone since it was listed
        return False
    if not stat.S_ISLNK(mode):
        return stat.S_ISREG(mode)
    try:
        target = Path(file).resolve(strict=True)
    except (OSError, RuntimeError):  # a dangling link, or a loop of links
        return False
    return target.is_relative_to(real_root) and target.is_file()
