"""One file of an archive, its possible faults, and limits on what an archive may unfold to.

Names are checked although nothing is written. A name that would leave the archive shows that the
archive is not what it seems, and it could collide with a file of another source in the ledger.
"""

from __future__ import annotations

import hashlib
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from typing import IO, Literal

from sevenfold.core.hashing import sha256
from sevenfold.core.process.log import one_line

# Faults that a reader of a source reports for what it does not read. `no_documents`,
# `duplicate_key` and `pointer` do not come from archives.
Fault = Literal[
    "too_large",
    "unsafe_path",
    "link",
    "encrypted",
    "duplicate_name",
    "bomb",
    "corrupt",
    "trailing_data",
    "no_documents",
    "duplicate_key",
    "pointer",
]

MAX_ENTRIES = 500_000
# Limit of the bytes of one archive.
MAX_UNFOLDED = 16 << 30
# Limit of the ratio of unfolded to stored bytes; text reaches 10 to 30.
MAX_RATIO = 250
# Below this size the ratio is not checked.
FREE_UNFOLDED = 64 << 20
BLOCK = 1 << 20

# Errors that the readers of the standard library raise for damaged archives.
DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error,
    EOFError, OSError, ValueError, RuntimeError, LookupError, OverflowError, AttributeError, TypeError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an archive. `data` is None exactly when `fault` says why. `path` is then only for
    messages and not trusted.
    """

    path: str
    data: bytes | None
    n_bytes: int
    sha256: str
    fault: Fault | None = None
    target: str | None = (
        # The target of a link, as a path from the folder of the link. It is never followed outside
        # the archive.
        None
    )


class Bomb(Exception):  # noqa: N818  (an outcome that is listed, not an error of the program)
    """An archive unfolds to more than its size allows."""


class Budget:
    """Counts the bytes and entries that one archive of `n_stored` bytes unfolds to."""

    def __init__(self, n_stored: int) -> None:
        self._left = min(MAX_UNFOLDED, max(FREE_UNFOLDED, MAX_RATIO * n_stored))
        self._n_entries = 0

    def spend(self, n_bytes: int) -> None:
        """Count bytes. Raises Bomb beyond the limit."""
        self._left -= n_bytes
        if self._left < 0:
            raise Bomb

    def enter(self) -> None:
        """Count an entry. Raises Bomb beyond the limit."""
        self._n_entries += 1
        if self._n_entries > MAX_ENTRIES:
            raise Bomb


def shown(name: str) -> str:
    """Return a name in the form of the ledger: invalid UTF-8 and control characters as `\\xNN`."""
    text = (
        name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if _fits(name)
        else ascii(name)[1:-1]
    )
    return one_line(text)


def _fits(name: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" and not "\udc80" <= c <= "\udcff" for c in name)


def safe_path(name: str) -> str | None:
    """Return the name as a relative path with `/`, or None when it leaves the archive, is absolute,
    or is empty.
    """
    path = name.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or path.startswith("/") or ".." in parts or "\0" in name or re.match(r"[A-Za-z]:", path):
        return None
    return "/".join(parts)


def faulty(name: str, fault: Fault, n_bytes: int = 0, target: str | None = None) -> Entry:
    """Return an entry that exists and is not read."""
    return Entry(shown(name), None, n_bytes, "", fault, target)


def read_entry(path: str, file: IO[bytes], max_bytes: int, budget: Budget | None) -> Entry:
    """Read one file. A file beyond `max_bytes` is hashed and counted and not held."""
    hasher, n_bytes, held = hashlib.sha256(), 0, bytearray()
    while block := file.read(min(BLOCK, max_bytes + 1)):
        if budget is not None:
            budget.spend(len(block))
        n_bytes += len(block)
        hasher.update(block)
        if n_bytes <= max_bytes:
            held += block
    if n_bytes > max_bytes:
        return Entry(path, None, n_bytes, hasher.hexdigest(), "too_large")
    data = bytes(held)
    return Entry(path, data, n_bytes, sha256(data).hex())
