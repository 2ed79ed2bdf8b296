"""Ownership of files: what this project did not write is never replaced and never removed.

A path that a user names for an output may hold something already. It is replaced only if its content
shows that a verb of this project wrote it. Each verb passes the test for its own kind of file.
Everything else is refused, and the user names another path.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from sevenfold.core.errors import StorageError, storage
from sevenfold.core.hashing import Json

# What the pictures of this project name as their software.
SOFTWARE = "Sevenfold"
_HEAD_BYTES = 64 << 20


def refuse_foreign(path: Path, is_ours: Callable[[bytes], bool], kind: str) -> None:
    """Refuse an output path that holds something else than an earlier output of its kind.

    Args:
        path: the output that was asked for. Nothing there, or an empty file: accepted.
        is_ours: whether bytes (at most 64 MiB of them) are what the verb writes.
        kind: what the verb writes, for the error.

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
