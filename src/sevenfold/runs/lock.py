"""The lock of a run directory. One process works in it, or several that share it on purpose."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sevenfold.core.errors import StorageError, storage
from sevenfold.core.files import read_bytes
from sevenfold.core.hashing import canonical_json
from sevenfold.core.run_files import (
    COMPLETIONS,
    CORPUS_PAGE,
    CORPUS_PLOT,
    LOCK,
    PARENT,
    RECIPE,
    REPORT,
    STAGES,
    TUNE,
    VERIFICATION,
)
from sevenfold.recipe.schema import Recipe

# The names that a run writes beside `recipe.json`: directories, and the files of its end.
NAMES = (
    *STAGES,
    PARENT,
    TUNE,
    *(VERIFICATION, COMPLETIONS, REPORT, CORPUS_PAGE, CORPUS_PLOT),
)


def _refuse_foreign(out: Path) -> None:
    """Refuse a directory in which something else has a name that a run writes, because stages replace
    their directories.

    The directory of a run is recognised by its lock, which is written first and stays. A copy
    without the lock is recognised by its resolved recipe.
    """
    if (out / LOCK).is_file() or not out.is_dir() or _holds_resolved_recipe(out):
        return
    for name in (RECIPE, *NAMES):
        path = out / name
        if path.is_symlink() or path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise StorageError(
                "a run writes under this name, and it holds something that no run of s7 made",
                where=str(path),
                remedy="choose another --out",
            )


def _holds_resolved_recipe(out: Path) -> bool:
    """Return whether `recipe.json` is what a run writes: canonical, and
    resolved to the last default.
    """
    path = out / RECIPE
    if not path.is_file():
        return False
    data = read_bytes(path)
    try:
        return data == canonical_json(Recipe.model_validate_json(data).resolved()) + b"\n"
    except (ValueError, RecursionError):
        return False


@contextmanager
def exclusive(out: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of a run directory. A second process is refused, unless both hold it `shared`.

    Raises:
        StorageError: another process holds it, it cannot be written, or its names are
            taken by files that no run made.
    """
    with storage(out):
        _refuse_foreign(out)
        out.mkdir(parents=True, exist_ok=True)
        handle = os.open(out / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise StorageError(
            "another s7 process is working in this directory",
            where=str(out),
            remedy="wait for it, or choose another --out",
        ) from error
    try:
        yield
    finally:
        os.close(handle)
