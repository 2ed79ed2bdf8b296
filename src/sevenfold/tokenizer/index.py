"""Document indexes: domain and id of every document of a token file. Format: specs/dataset.md.

    0   magic "S7DX"       4   u16 version      6   u16 n_domains      8   u64 n_documents
    16  u64 bytes of the names, padding included                       24  u64 zero
    32  SHA-256 of (all bytes from 64 to the end, then bytes 0 to 31)
    64  names (u8 length, ASCII), ascending; zero bytes up to a multiple of 8
        ids, 32 bytes a document; u16 number of the domain, one a document; end of file

Little-endian. With it training finds the documents of one domain, and names those of a batch that
went wrong. The file, 34 bytes a document, is mapped: reading it holds none of it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.errors import StorageError, storage
from sevenfold.core.files import write_bytes
from sevenfold.core.mapped import Mapped

MAGIC = b"S7DX"
VERSION = 1
HEADER_BYTES, DIGEST_OFFSET, ID_BYTES = 64, 32, 32
_HEADER = struct.Struct("<4sHHQQQ")


@dataclass(frozen=True)
class DocumentIndex:
    """An index. domains: names, ascending. domain_of: u16 [n_documents], positions in `domains`.
    ids: u8 [n_documents, 32].
    """

    domains: tuple[str, ...]
    domain_of: NDArray[np.uint16]
    ids: NDArray[np.uint8]
    mapped: Mapped

    @property
    def n_documents(self) -> int:
        """Return the number of documents."""
        return len(self.domain_of)

    def id(self, document: int) -> str:
        """Return the id of a document: hex SHA-256 of its text."""
        return bytes(self.ids[document]).hex()


def write_index(path: Path, documents: Sequence[tuple[str, str]]) -> None:
    """Write the (id, domain) of every document, in the order of the token file, atomically. Raises
    StorageError.
    """
    domains = sorted({domain for _, domain in documents})
    number = {domain: i for i, domain in enumerate(domains)}
    names = b"".join(bytes([len(domain)]) + domain.encode("ascii") for domain in domains)
    names += bytes(-len(names) % 8)
    body = names + b"".join(bytes.fromhex(document) for document, _ in documents)
    body += np.array([number[domain] for _, domain in documents], "<u2").tobytes()
    header = _HEADER.pack(MAGIC, VERSION, len(domains), len(documents), len(names), 0)
    write_bytes(path, header + hashlib.sha256(body + header).digest() + body)


def read_index(path: Path) -> DocumentIndex:
    """Read an index. Raises StorageError, which says whether it is missing, truncated, altered or
    of another version.
    """
    with storage(path):
        size = path.stat().st_size
        if size < HEADER_BYTES:
            raise _refusal(path, f"{size} bytes, shorter than its header of {HEADER_BYTES}")
        mapped = Mapped(path)
    data = mapped.bytes
    header = data[:DIGEST_OFFSET].tobytes()
    magic, version, n_domains, n_documents, n_names, zero = _HEADER.unpack(header)
    if magic != MAGIC:
        raise _refusal(path, f"magic {magic!r} at offset 0, expected {MAGIC!r}")
    if version != VERSION or zero:
        raise _refusal(path, f"version {version} at offset 4, this version reads {VERSION}")
    expected = HEADER_BYTES + n_names + n_documents * (ID_BYTES + 2)
    if len(data) != expected or n_names % 8:
        raise _refusal(
            path, f"{len(data)} bytes, but {n_documents} documents take {expected}: cut or altered"
        )
    if mapped.digest(HEADER_BYTES, header) != data[DIGEST_OFFSET:HEADER_BYTES].tobytes():
        raise _refusal(path, "its SHA-256 does not match the one at offset 32: the file was altered")
    domains = _names(path, data[HEADER_BYTES : HEADER_BYTES + n_names].tobytes(), n_domains)
    start = HEADER_BYTES + n_names
    end = start + n_documents * ID_BYTES
    ids, domain_of = data[start:end].reshape(-1, ID_BYTES), data[end:].view("<u2")
    if n_documents and int(domain_of.max()) >= n_domains:
        raise _refusal(path, f"a document of domain {int(domain_of.max())}, but there are {n_domains}")
    mapped.release()
    return DocumentIndex(domains=domains, domain_of=domain_of, ids=ids, mapped=mapped)


def _names(path: Path, data: bytes, count: int) -> tuple[str, ...]:
    names: list[str] = []
    place = 0
    for _ in range(count):
        end = place + 1 + (data[place] if place < len(data) else 0)
        name = data[place + 1 : end]
        if end > len(data) or not name or not name.isascii():
            raise _refusal(path, f"the name of domain {len(names)} is not one")
        names.append(name.decode("ascii"))
        place = end
    if any(data[place:]) or len(data) - place >= 8 or names != sorted(set(names)):
        raise _refusal(path, "the names of its domains do not ascend, or bytes follow them")
    return tuple(names)


def _refusal(path: Path, what: str) -> StorageError:
    return StorageError(
        f"not a document index: {what}", where=str(path), remedy="make it again with `s7 tokenizer`"
    )


def open_index(tokens: Path, n_documents: int) -> DocumentIndex:
    """Return the index beside a token file of `n_documents` documents.

    Raises StorageError.
    """
    path = index_path(tokens)
    index = read_index(path)
    if index.n_documents != n_documents:
        raise _refusal(path, f"{index.n_documents} documents; {tokens.name} has {n_documents}")
    return index


def index_path(tokens: Path) -> Path:
    """Return the path of the index of a token file: train.tokens -> train.index."""
    return tokens.with_suffix(".index")
