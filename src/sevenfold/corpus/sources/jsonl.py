"""Read JSON lines, plain or compressed (.gz, .zst, .bz2, .xz; the first bytes decide). No line is
held beyond a limit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from sevenfold.core.errors import StorageError, storage
from sevenfold.core.files import RepeatedKey, unique_keys
from sevenfold.core.hashing import sha256
from sevenfold.corpus.archives.entry import DAMAGE
from sevenfold.corpus.archives.streams import decompressed
from sevenfold.corpus.document import BLOCK, SourceDocument, SourceOrigin
from sevenfold.corpus.sources.records import ColumnNames, found_record, keys_of, origin_of
from sevenfold.recipe.corpus_schema import JsonlSource


def read_jsonl(source: JsonlSource, base: Path, max_bytes: int) -> Iterator[SourceDocument]:
    """Yield the records of one file. Raises StorageError and RecipeError as `read_source` does."""
    keys = keys_of(source)
    name = PurePosixPath(source.path).name
    yield from read_lines(base / source.path, name, keys, origin_of(source, keys), max_bytes)


def read_lines(
    file: Path, name: str, keys: ColumnNames, origin: SourceOrigin, max_bytes: int
) -> Iterator[SourceDocument]:
    """Yield the records of a file of JSON lines, each at `name`:line.

    Raises:
        StorageError: the file cannot be read, or its compression is damaged.
    """
    # JSON may use six characters for one byte of text (\u0000). The rest is room for the other
    # keys.
    limit = 6 * max_bytes + BLOCK
    with storage(file), file.open("rb") as stored:
        lines = _lines(decompressed(stored), limit)
        while True:
            try:
                number, line, n_bytes = next(lines)
            except StopIteration:
                return
            except DAMAGE as error:
                raise StorageError(
                    f"damaged compression: {error}", where=str(file), remedy="get the file again"
                ) from error
            path = f"{name}:{number}"
            if n_bytes > limit:
                yield SourceDocument(origin, path, n_bytes, "", None, "too_large")
            elif line.strip():
                yield _parse_record(keys, origin, path, line, max_bytes)


def _lines(handle: IO[bytes], limit: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield (number from 1, at most `limit` + 1 bytes of the line, its length). A longer line is
    not held.
    """
    number = 0
    while line := handle.readline(limit + 1):
        number += 1
        n_bytes, tail = len(line), line
        while len(tail) > limit and not tail.endswith(b"\n"):
            tail = handle.readline(limit + 1)
            n_bytes += len(tail)
        yield number, line, n_bytes


def _parse_record(
    keys: ColumnNames, origin: SourceOrigin, path: str, line: bytes, max_bytes: int
) -> SourceDocument:
    try:
        record = json.loads(line, object_pairs_hook=unique_keys)
        if not isinstance(record, dict):
            raise TypeError(path)
        return found_record(keys, origin, path, record, max_bytes)
    except RepeatedKey:
        return SourceDocument(origin, path, len(line), sha256(line).hex(), None, "duplicate_key")
    except (ValueError, TypeError, KeyError, RecursionError):
        return SourceDocument(origin, path, len(line), sha256(line).hex(), None, "unreadable")
