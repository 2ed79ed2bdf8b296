"""An output that is written to a temporary name and renamed when it is whole.

What already has the name is never touched.
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
    """Yield a path beside `out`, of this writer alone, that becomes `out` when the block ends well
    and vanishes when it does not.

    Two writers to one `out` do not meet: each has its own path, and the
    first that ends takes the name.

    Raises:
        StorageError: something is at `out`, before the block or when it
            ends, or `out` cannot be made.
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
    """Give the finished work its name, unless another has it."""
    if work.is_dir():
        # The system's own rename would take the place of an empty directory, which is somebody's.
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
    # A link that leads nowhere is something, too.
    if os.path.lexists(out):
        raise _existing(out)


def _existing(out: Path) -> StorageError:
    kind = "directory" if out.is_dir() else "file"
    return StorageError(
        f"a {kind} is there already, and nothing is replaced", where=str(out), remedy="choose another --out"
    )
