"""Read compressed streams forwards: gzip, bzip2, xz, zstd, or none. The first bytes decide which.

No read requests more than it may hold, so a header that promises gigabytes costs nothing.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from typing import IO, Any, cast

from sevenfold.core.process.modules import require_module
from sevenfold.corpus.archives.entry import BLOCK, Budget

LZMA_MEMORY = 256 << 20
# Bytes of one call; headers are smaller, and files are read in blocks.
LARGEST_READ = 32 << 20

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x5d\x00\x00", "lzma"),
)


def codec_of(head: bytes) -> str:
    """Return the name of the compression that begins with these bytes; "" for none."""
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "")


class _Streams(io.RawIOBase):
    """Concatenated streams of one codec, followed only by zeros. Anything else after a stream is
    damage.

    The file objects of the standard library have no limit on memory (xz), or ignore what follows
    (bzip2).
    """

    def __init__(self, file: IO[bytes], new: Callable[[], Any]) -> None:
        self._file, self._new = file, new
        self._decoder = new()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._decoder.eof:
                rest = self._decoder.unused_data.lstrip(b"\0") or self._file.read(BLOCK).lstrip(b"\0")
                if not rest:
                    return 0
                self._decoder, data = self._new(), rest
            else:
                data = self._file.read(1 << 16) if self._decoder.needs_input else b""
                if self._decoder.needs_input and not data:
                    raise EOFError("the compressed stream ends early")
            unfolded = self._decoder.decompress(data, len(buffer))
            if unfolded:
                buffer[: len(unfolded)] = unfolded
                return len(unfolded)


def _lzma() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_AUTO, memlimit=LZMA_MEMORY)


def decompressed(file: IO[bytes]) -> IO[bytes]:
    """Return the unfolded bytes of a stream that can seek to its start; its first bytes decide the
    codec.

    Raises:
        UsageError: zstd without pyarrow.
    """
    start = file.tell()
    codec = codec_of(file.read(6))
    file.seek(start)
    if codec == "gzip":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if codec == "bzip2":
        return cast("IO[bytes]", io.BufferedReader(_Streams(file, bz2.BZ2Decompressor), BLOCK))
    if codec in ("xz", "lzma"):
        return cast("IO[bytes]", io.BufferedReader(_Streams(file, _lzma), BLOCK))
    return _zstd(file) if codec == "zstd" else file


def _zstd(file: IO[bytes]) -> IO[bytes]:
    pyarrow = require_module("pyarrow", "zstd needs pyarrow")
    return cast("IO[bytes]", io.BufferedReader(pyarrow.CompressedInputStream(file, "zstd"), BLOCK))


class Forward:
    """A forward-only file as `tarfile` needs it: tell, read, seek ahead. Every byte counts against
    the limit.
    """

    def __init__(self, file: IO[bytes], budget: Budget) -> None:
        self._file, self._budget, self._position = file, budget, 0
        # The bytes of the last read.
        self.last = b""

    def tell(self) -> int:
        """Return the number of bytes read so far."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Return exactly `size` bytes, or fewer at the end.

        Raises ValueError for an invalid size.
        """
        if not 0 <= size <= LARGEST_READ:
            raise ValueError(f"a header asks for {size} bytes at once")
        parts, wanted = [], size
        while wanted and (block := self._file.read(wanted)):
            parts.append(block)
            wanted -= len(block)
        data = b"".join(parts)
        self._position += len(data)
        self._budget.spend(len(data))
        self.last = data
        return data

    def has_more(self) -> bool:
        """Return whether anything but zeros follows. It reads to the end."""
        found = False
        while data := self.read(BLOCK):
            found = found or data.count(0) < len(data)
        return found

    def seek(self, position: int, whence: int = 0) -> int:
        """Move ahead to `position`. Raises ValueError for moving back."""
        if whence or position < self._position:
            raise ValueError("an archive that points backwards")
        while self._position < position:
            if not self.read(min(BLOCK, position - self._position)):
                break
        return self._position


class Slice(io.RawIOBase):
    """The `size` bytes of a file from `offset`, which are a member of an ar archive."""

    def __init__(self, file: IO[bytes], offset: int, size: int) -> None:
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, position: int, whence: int = 0) -> int:
        base = (0, self._at, self._size)[whence]
        self._at = max(0, base + position)
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._offset + self._at)
        data = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
