"""Check the ownership of files: files that this project did not write are never replaced or
removed.

A path that a user names for an output may hold something already. It is replaced only if its
content shows that a verb of this project wrote it. Each verb supplies the test for its own kind of
file. Everything else is refused, and the user names another path.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from sevenfold.core.errors import StorageError, storage
from sevenfold.core.hashing import Json

# The software that the pictures of this project name in their metadata.
SOFTWARE = "Sevenfold"
_HEAD_BYTES = 64 << 20


def refuse_foreign(path: Path, is_ours: Callable[[bytes], bool], kind: str) -> None:
    """Refuse an output path that holds something else than an earlier output of its kind.

    Args:
        path: the requested output. A missing or empty file is accepted.
        is_ours: whether bytes (at most 64 MiB of them) are an output of the verb.
        kind: the kind of output, for the error.

    Raises:
        StorageError: it holds something else, or cannot be read.
    """
    with storage(path):
        if not (path.exists() or path.is_symlink()):
            return
        if path.is_file():
            with path.open("rb") as file:
                head = file.read(_HEAD_BYTES)
            if not head or _holds(is_ours, head):
                return
    raise StorageError(
        f"something is there already that is no {kind} of s7", where=str(path), remedy="name another path"
    )


def _holds(is_ours: Callable[[bytes], bool], data: bytes) -> bool:
    try:
        return is_ours(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def is_picture(data: bytes) -> bool:
    """Return whether bytes are a PNG that names this project as its software."""
    return data[:8] == b"\x89PNG\r\n\x1a\n" and f"Software\0{SOFTWARE}".encode() in data[:4096]


def is_json_of(*keys: str) -> Callable[[bytes], bool]:
    """Return a test for a JSON object with exactly these keys."""

    def test(data: bytes) -> bool:
        value: Json = json.loads(data)
        return isinstance(value, dict) and set(value) == set(keys)

    return test
