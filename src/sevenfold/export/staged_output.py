"""Write an output to a temporary name, and rename it when it is complete.

An existing file or directory with that name is never changed.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sevenfold.core.errors import StorageError, storage

SUFFIX = ".unproven"
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def beside(out: Path) -> Iterator[Path]:
    """Yield a path beside `out` that only this writer uses. It is renamed to `out` when the block
    succeeds, and deleted when it fails.

    Two writers of one `out` do not conflict. Each has its own path, and the first one to finish
    gets the name.

    Raises:
        StorageError: `out` exists, before the block or at its end, or it cannot be made.
    """
    _refuse_existing(out)
    with storage(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=SUFFIX))
    try:
        work = folder / out.name
        yield work
        with storage(out):
            _publish(work, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(work: Path, out: Path) -> None:
    """Rename the finished work, unless the name exists."""
    if work.is_dir():
        # A plain rename would replace an empty directory, which may belong to someone.
        try:
            out.mkdir()
        except FileExistsError as error:
            raise _existing(out) from error
        work.rename(out)
        return
    try:
        out.hardlink_to(work)
    except FileExistsError as error:
        raise _existing(out) from error
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _refuse_existing(out)
        work.rename(out)


def _refuse_existing(out: Path) -> None:
    # A broken link also counts as existing.
    if os.path.lexists(out):
        raise _existing(out)


def _existing(out: Path) -> StorageError:
    kind = "directory" if out.is_dir() else "file"
    return StorageError(
        f"a {kind} with this name exists, and nothing is replaced",
        where=str(out),
        remedy="choose another --out",
    )
