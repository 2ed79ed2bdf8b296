"""Show files on disk to a licence survey. No link is followed, and only regular files are opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from sevenfold.core.errors import storage_error
from sevenfold.corpus.archives.entry import shown
from sevenfold.corpus.licences import Seen
from sevenfold.corpus.licences.wording.licence_text import MAX_LICENCE_BYTES


def tree_paths(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (path from the root in the form of the ledger, path of the file) of everything below a
    directory except directories.

    A link is yielded as itself.

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
                # The folder of git holds other commits and is not part of the tree.
                if entry.name != ".git":
                    waiting.append((f"{path}/", entry.path))
            else:
                yield path, entry.path


def seen_on_disk(path: str, file: str, *, is_wanted: bool) -> Seen | None:
    """Return a file for a survey: always a link with its target; None for a file that is not
    wanted.
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
    """Return the target of the link at a path below `root`; None when there is none."""
    try:
        return shown(os.fspath((root / path).readlink()))
    except OSError:
        return None


def path_itself(file: Path, real_root: Path) -> str | None:
    """Return the path from the root to which `file` resolves through links; None outside the root."""
    try:
        itself = file.resolve()
        return shown(os.fspath(itself.relative_to(real_root))) if itself.is_relative_to(real_root) else None
    except (OSError, RuntimeError):
        return None
