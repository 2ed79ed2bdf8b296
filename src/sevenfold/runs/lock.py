"""The lock of a run directory: one process works in it, or several that share it on purpose."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sevenfold.core.errors import StorageError, storage

LOCK = ".lock"


@contextmanager
def exclusive(out: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the run directory: a second process in it is refused, unless both hold it `shared`. Raises StorageError."""
    with storage(out):
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
