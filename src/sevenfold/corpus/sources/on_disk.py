"""Files on a disk as a survey of licences sees them: no link is followed, and nothing but a regular
file is opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from sevenfold.core.errors import storage_error
from sevenfold.corpus.archives.entry import shown
from sevenfold.corpus.licences import Seen
from sevenfold.corpus.licences.licence_text import MAX_LICENCE_BYTES


def tree_paths(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (path from the root as the ledger shows it, path of the file) of all below a directory
    that is no directory itself; a link counts as itself.

    Raises:
        StorageError: a directory cannot be listed.
    """
    waiting = [("", os.fspath(root))]
    while waiting:
        below, directory = waiting.pop()
        try:
            with os.scandir(directory) as listed:
                entries = list(listed)
        except OSError as error:
            raise storage_error(error) from error
        for entry in entries:
            path = f"{below}{shown(entry.name)}"
            if entry.is_dir(follow_symlinks=False):
                # What git keeps of other commits is none of the tree.
                if entry.name != ".git":
                    waiting.append((f"{path}/", entry.path))
            else:
                yield path, entry.path


def seen_on_disk(path: str, file: str, *, is_wanted: bool) -> Seen | None:
    """Return a file for a survey: a link with what stands in it, also unasked; None for a file that
    is not wanted.
    """
    try:
        mode = os.lstat(file).st_mode
        if stat.S_ISLNK(mode):
            return Seen(path, None, shown(os.fspath(Path(file).readlink())))
        if not is_wanted:
            return None
        if not stat.S_ISREG(mode):
            return Seen(path)
        with Path(file).open("rb") as handle:
            return Seen(path, handle.read(MAX_LICENCE_BYTES + 1))
    except OSError:
        return Seen(path) if is_wanted else None


def link_on_disk(root: Path, path: str) -> str | None:
    """Return what stands in the link at a path below `root`; None where there is none."""
    try:
        return shown(os.fspath((root / path).readlink()))
    except OSError:
        return None


def path_itself(file: Path, real_root: Path) -> str | None:
    """Return the path, from the root, of the file that links on the way to `file` lead to; None for
    one outside.
    """
    try:
        itself = file.resolve()
        return shown(os.fspath(itself.relative_to(real_root))) if itself.is_relative_to(real_root) else None
    except (OSError, RuntimeError):
        return None
