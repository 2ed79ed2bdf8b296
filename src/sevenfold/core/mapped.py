"""Map a file into memory for reading in pieces, and release pages after reading.

A mapped page stays in the resident memory of a process until the system is short of memory. Without
this, reading 100 GB by windows would look like 100 GB held. The data stays in the cache of the
system.
"""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.errors import storage

# Bytes between two releases. One read may map a page of 2 MiB, however little is read of it.
READS = 16
_CHUNK = 1 << 24


class Mapped:
    """A file mapped into memory.

    `bytes` is u8 [size], read-only. Arrays made from it are views, and keep the file mapped.
    """

    def __init__(self, path: Path) -> None:
        """Map the file. Raises StorageError when it is missing or empty."""
        with storage(path), path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.bytes: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)
        self._n_reads = 0

    def release(self) -> None:
        """Release the pages. The views stay valid and read again from the cache of the system."""
        self._map.madvise(mmap.MADV_DONTNEED)
        self._n_reads = 0

    def was_read(self) -> None:
        """Note a read, and release the pages from time to time."""
        self._n_reads += 1
        if self._n_reads >= READS:
            self.release()

    def digest(self, start: int, tail: bytes) -> bytes:
        """Return the SHA-256 of the bytes from `start` to the end and
        of `tail`, in constant memory.
        """
        hasher = hashlib.sha256()
        for place in range(start, len(self.bytes), _CHUNK):
            hasher.update(self.bytes[place : place + _CHUNK].data)
            self.release()
        hasher.update(tail)
        return hasher.digest()

    def scattered(self) -> None:
        """Tell the system that the next reads are far apart, so that it does not read ahead."""
        self._map.madvise(mmap.MADV_RANDOM)
