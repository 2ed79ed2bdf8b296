"""Files that appear whole or not at all.

A file is written beside its name, synced to the disk and renamed; then its directory is synced. A
reader never sees half a file. A kill or a full disk leaves the old file, or none.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sevenfold.core.errors import StorageError, storage
from sevenfold.core.hashing import Json, canonical_json

PARTIAL_SUFFIX = ".partial"
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def atomic_writer(path: Path, mode: int = 0o644, *, exclusive: bool = False) -> Iterator[IO[bytes]]:
    """Yield a binary file that becomes `path` when the block ends successfully, and is removed
    otherwise.

    Args:
        exclusive: `path` must not exist when the block ends. Nothing is replaced, also when another
            process writes it.

    Raises:
        StorageError: the directory cannot be written, the disk is full, or (its cause is
            FileExistsError) `path` exists.
    """
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL_SUFFIX)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(mode)
            if exclusive:
                _publish_new(temporary, path)
            else:
                temporary.replace(path)
            sync_directory(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _publish_new(temporary: Path, path: Path) -> None:
    try:
        path.hardlink_to(temporary)
        temporary.unlink()
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # Such a file system offers nothing better.
        temporary.replace(path)


def sync_directory(path: Path) -> None:
    """Make a rename in `path` durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes | memoryview, mode: int = 0o644) -> None:
    """Write a whole file atomically. Raises StorageError."""
    with atomic_writer(path, mode) as file:
        file.write(data)


def write_json(path: Path, value: Json) -> None:
    """Write canonical JSON (and a final newline) atomically. Raises StorageError."""
    write_bytes(path, canonical_json(value) + b"\n")


def write_pretty_json(path: Path, value: Json) -> None:
    """Write JSON that people read and compare: indented, keys sorted, one final newline.

    Raises StorageError.
    """
    write_bytes(
        path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False).encode() + b"\n"
    )


def read_bytes(path: Path) -> bytes:
    """Read a whole file. Raises StorageError."""
    with storage(path):
        return path.read_bytes()


def read_json(path: Path) -> Json:
    """Read a JSON file. Raises StorageError (missing, or not JSON)."""
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise StorageError(
            f"not valid JSON: {error}",
            where=str(path),
            remedy="get it again from where it came; a file of a run is made again by its stage",
        ) from error


class RepeatedKey(ValueError):  # noqa: N818  (an outcome that the reader of the text names)
    """A JSON object names a key twice."""


def unique_keys(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """Return the object of the pairs, for `json.loads(object_pairs_hook=)`.

    Without this hook, `json.loads` keeps the last of equal keys and reports nothing.

    Raises:
        RepeatedKey: a key is given twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise RepeatedKey(f"the key {twice[:80]!a} stands there twice")
    return found


def link_or_copy(source: Path, target: Path) -> None:
    """Give a finished file a second name, or copy it where the file system has no hard links.
    Raises StorageError.
    """
    with storage(source):
        try:
            target.hardlink_to(source)
        except OSError as error:
            if error.errno not in (*_NO_HARD_LINKS, errno.EXDEV, errno.EMLINK):
                raise
            with source.open("rb") as file, atomic_writer(target) as copy:
                shutil.copyfileobj(file, copy)


def remove_partials(directory: Path) -> None:
    """Delete partial files that an interrupted writer left in `directory`."""
    for leftover in directory.glob(f".*{PARTIAL_SUFFIX}"):
        if leftover.is_file():
            leftover.unlink(missing_ok=True)
