"""Read and write token files: documents as one array of integers that training maps into memory.

Format: specs/dataset.md.

    0   magic "S7TK"       4   u16 version      6   u8 width (2 or 4)   7   u8 zero
    8   u32 vocab_size     12  u32 zero         16  u64 n_tokens        24  u64 n_documents
    32  SHA-256 of (all bytes from 64 to the end, then bytes 0 to 31)
    64  tokens, n_tokens * width; zero bytes up to a multiple of 8;
        u64 offsets [n_documents + 1]; end of file

Little-endian. The writer streams and holds only the offsets in memory. The reader is total: it
accepts a file only if it can account for every byte, and names what is wrong with any other.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.errors import StorageError, UsageError, storage
from sevenfold.core.files import atomic_writer
from sevenfold.core.mapped import Mapped

MAGIC = b"S7TK"
VERSION = 1
HEADER_BYTES = 64
DIGEST_OFFSET = 32
OFFSET_BYTES = 8
_HEADER = struct.Struct("<4sHBBIIQQ")
# How many tokens or offsets are checked at a time.
_CHUNK = 1 << 22


@dataclass(frozen=True)
class TokenFile:
    """A token file, mapped read-only.

    tokens: u16 or u32 [n_tokens].
    offsets: u64 [n_documents + 1]; document i is tokens[offsets[i] : offsets[i + 1]].
    """

    tokens: NDArray[np.uint16] | NDArray[np.uint32]
    offsets: NDArray[np.uint64]
    vocab_size: int
    mapped: Mapped

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.tokens)

    def __getitem__(self, part: slice) -> NDArray[np.unsignedinteger]:
        """Return a copy of the tokens of a slice without a step. The pages of the file do not stay
        in memory.
        """
        found = self.tokens[part].copy()
        self.mapped.was_read()
        return found

    @property
    def n_tokens(self) -> int:
        """Return the number of tokens."""
        return len(self.tokens)

    @property
    def n_documents(self) -> int:
        """Return the number of documents."""
        return len(self.offsets) - 1

    def document(self, index: int) -> NDArray[np.unsignedinteger]:
        """Return a copy of the tokens of one document (0 <= index < n_documents)."""
        return self[int(self.offsets[index]) : int(self.offsets[index + 1])]


def token_width(vocab_size: int) -> int:
    """Return how many bytes a token takes: 2 when every id fits in 16 bits, else 4."""
    return 2 if vocab_size <= 1 << 16 else 4


def write_tokens(path: Path, documents: Iterable[Sequence[int]], vocab_size: int) -> tuple[int, int]:
    """Write documents as a token file, atomically. Return (n_tokens, n_documents).

    Raises:
        StorageError: the file cannot be written.
        UsageError: a document is empty, or an id is outside the vocabulary.
    """
    width = token_width(vocab_size)
    offsets, hasher = [0], hashlib.sha256()
    with atomic_writer(path) as file:
        file.write(bytes(HEADER_BYTES))
        for number, document in enumerate(documents):
            ids = np.asarray(document, dtype=np.int64)
            if ids.size == 0 or ids.min() < 0 or ids.max() >= vocab_size:
                raise UsageError(
                    f"document {number} is empty or has an id outside 0 to {vocab_size - 1}", where=str(path)
                )
            payload = ids.astype(f"<u{width}").tobytes()
            hasher.update(payload)
            file.write(payload)
            offsets.append(offsets[-1] + ids.size)
        tail = bytes(-offsets[-1] * width % OFFSET_BYTES) + np.array(offsets, "<u8").tobytes()
        file.write(tail)
        header = _HEADER.pack(MAGIC, VERSION, width, 0, vocab_size, 0, offsets[-1], len(offsets) - 1)
        hasher.update(tail + header)
        file.seek(0)
        file.write(header + hasher.digest())
    return offsets[-1], len(offsets) - 1


def open_tokens(path: Path, *, verify: bool = True) -> TokenFile:
    """Map a token file.

    Args:
        path: the file.
        verify: also check the digest and every id, which reads the file once (about 0.5 GB/s).

    Raises:
        StorageError: says whether the file is missing, truncated, altered, or of another version.
    """
    with storage(path):
        size = path.stat().st_size
        if size < HEADER_BYTES:
            raise _refusal(path, f"{size} bytes, shorter than its header of {HEADER_BYTES}")
        mapped = Mapped(path)
    raw = mapped.bytes
    header = raw[:HEADER_BYTES].tobytes()
    width, vocab_size, n_tokens = _checked_header(path, header, size)
    tokens_end = HEADER_BYTES + n_tokens * width
    offsets_start = tokens_end + -tokens_end % OFFSET_BYTES
    if raw[tokens_end:offsets_start].any():
        raise _refusal(path, f"padding at offset {tokens_end} is not zero")
    offsets = raw[offsets_start:].view("<u8")
    _check_offsets(path, offsets, n_tokens)
    mapped.release()
    file = TokenFile(
        tokens=raw[HEADER_BYTES:tokens_end].view(f"<u{width}"),
        offsets=offsets,
        vocab_size=vocab_size,
        mapped=mapped,
    )
    if verify:
        _check_body(path, file, header)
    mapped.scattered()
    return file


def _refusal(path: Path, what: str) -> StorageError:
    return StorageError(
        f"not a token file: {what}", where=str(path), remedy="make it again with `s7 tokenizer`"
    )


def _checked_header(path: Path, header: bytes, size: int) -> tuple[int, int, int]:
    """Return (width, vocab_size, n_tokens) of a header that matches the size of the file."""
    magic, version, width, zero, vocab_size, zeros, n_tokens, n_documents = _HEADER.unpack(
        header[:DIGEST_OFFSET]
    )
    if magic != MAGIC:
        raise _refusal(path, f"magic {magic!r} at offset 0, expected {MAGIC!r}")
    if version != VERSION:
        raise _refusal(path, f"version {version} at offset 4, this version reads {VERSION}")
    if zero or zeros:
        raise _refusal(path, f"reserved bytes {zero} at offset 7 and {zeros} at offset 12 are not zero")
    if vocab_size == 0 or width != token_width(vocab_size):
        raise _refusal(
            path, f"width {width} at offset 6 does not fit a vocabulary of {vocab_size} at offset 8"
        )
    body = n_tokens * width
    expected = HEADER_BYTES + body + -body % OFFSET_BYTES + (n_documents + 1) * OFFSET_BYTES
    if size != expected:
        raise _refusal(
            path,
            f"{size} bytes, but {n_tokens} tokens in {n_documents} documents take {expected}: cut or altered",
        )
    return width, vocab_size, n_tokens


def _check_offsets(path: Path, offsets: NDArray[np.uint64], n_tokens: int) -> None:
    if int(offsets[0]) != 0 or int(offsets[-1]) != n_tokens:
        raise _refusal(
            path, f"document offsets run from {offsets[0]} to {offsets[-1]}, expected 0 to {n_tokens}"
        )
    for start in range(0, len(offsets) - 1, _CHUNK):
        part = offsets[start : start + _CHUNK + 1]
        if not np.all(part[:-1] < part[1:]):
            raise _refusal(path, "document offsets do not ascend: a document is empty, or they are altered")


def _check_body(path: Path, file: TokenFile, header: bytes) -> None:
    if file.mapped.digest(HEADER_BYTES, header[:DIGEST_OFFSET]) != header[DIGEST_OFFSET:]:
        raise _refusal(path, "its SHA-256 does not match the one at offset 32: the file was altered")
    for start in range(0, file.n_tokens, _CHUNK):
        highest = int(file.tokens[start : start + _CHUNK].max())
        file.mapped.release()
        if highest >= file.vocab_size:
            raise _refusal(path, f"token id {highest} is outside a vocabulary of {file.vocab_size}")
