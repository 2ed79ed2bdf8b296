"""Documents and ledgers in Parquet: the same rows give the same bytes, and rows stream in both
directions.

What would vary between two writings is fixed or left out: row groups of a set number of rows, one
codec at one level, dictionaries only for the named columns, no statistics, no embedded Arrow or
pandas schema, no time. The bytes still depend on the version of pyarrow. So writers also return a
digest of the rows, which no version changes and which enters the root of a stage. Memory: one row
group. It needs `sevenfold[train]`; importing this module does not. Format: specs/dataset.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sevenfold.core.errors import SevenfoldError, StorageError, storage
from sevenfold.core.files import atomic_writer
from sevenfold.core.process.modules import require_module

ROWS_PER_GROUP = 256
CODEC = "zstd"
CODEC_LEVEL = 3

ColumnType = Literal["string", "int64"]
Columns = Mapping[str, ColumnType]

DOCUMENT_COLUMNS: Columns = {
    "id": "string",
    "text": "string",
    "domain": "string",
    "source": "string",
    "path": "string",
}
# Columns with few distinct values. Dictionaries would only take space in the others.
DICTIONARY_COLUMNS = frozenset(
    ("domain", "source", "version", "licence", "licence_evidence", "language", "split", "status", "reason")
)

# The source of documents of the generators of this project.
SYNTHETIC = "synthetic"
# Markers between the steps of a solution in such documents. A marker that the vocabulary reserves
# is one token.
STEP_MARKERS = ("<REASON>", "<THINK>", "<FINAL>", "<scratchpad>", "</scratchpad>")


@dataclass(frozen=True, slots=True)
class Document:
    """One text of a source.

    `id` is the hex SHA-256 of its UTF-8 bytes. `path` is relative to its source.
    """

    id: str
    text: str
    domain: str
    source: str
    path: str


def pyarrow_version() -> str:
    """Return the version of the library that decides the bytes. Raises UsageError when it is not
    installed.
    """
    version: str = pyarrow_library().__version__
    return version


def pyarrow_library() -> Any:
    """Return `pyarrow` with its Parquet module. Raises UsageError when it is not installed."""
    require_module("pyarrow.parquet", "Parquet needs pyarrow")
    return require_module("pyarrow")


def _schema(columns: Columns) -> Any:
    arrow = pyarrow_library()
    kinds = {"string": arrow.string(), "int64": arrow.int64()}
    return arrow.schema([arrow.field(name, kinds[kind], nullable=False) for name, kind in columns.items()])


class Written(NamedTuple):
    """The number of rows of a written file, and the digest of all of them (specs/dataset.md,
    "Digest of rows").
    """

    n_rows: int
    content: str


class _RowDigest:
    """Computes the digest of rows, one group at a time."""

    def __init__(self, columns: Columns) -> None:
        head: list[str | int] = ["sevenfold/rows/1", len(columns)]
        head += [part for column in columns.items() for part in column]
        self._hash = hashlib.sha256()
        self.add([tuple(head)])

    def add(self, rows: Iterable[tuple[str | int, ...]]) -> None:
        # Without a call for each cell, of which a document has a dozen.
        cells: list[bytes] = []
        for value in chain.from_iterable(rows):
            if isinstance(value, int):
                cells.append(value.to_bytes(8, "big", signed=True))
            else:
                raw = value.encode()
                cells += (len(raw).to_bytes(8, "big"), raw)
        self._hash.update(b"".join(cells))

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def write_rows(path: Path, columns: Columns, rows: Iterable[tuple[str | int, ...]]) -> Written:
    """Write rows (values in the order of `columns`) as a Parquet file, atomically. Return their
    number and their digest.

    Raises:
        StorageError: the file cannot be written, or a text is not Unicode.
        UsageError: pyarrow is not installed.
    """
    arrow = pyarrow_library()
    schema = _schema(columns)
    n_rows, content = 0, _RowDigest(columns)
    pending = iter(rows)
    with (
        atomic_writer(path) as file,
        arrow.parquet.ParquetWriter(
            file,
            schema,
            compression=CODEC,
            compression_level=CODEC_LEVEL,
            use_dictionary=[name for name in columns if name in DICTIONARY_COLUMNS],
            write_statistics=False,
            store_schema=False,
            data_page_version="1.0",
            version="2.6",
        ) as writer,
    ):
        while group := list(islice(pending, ROWS_PER_GROUP)):
            values_by_column = zip(*group, strict=True)
            try:
                arrays = [
                    arrow.array(values, type=field.type)
                    for values, field in zip(values_by_column, schema, strict=True)
                ]
            except UnicodeEncodeError as error:
                raise StorageError(
                    f"a text that is not Unicode cannot be stored: {error}", where=str(path)
                ) from error
            writer.write_batch(arrow.record_batch(arrays, schema=schema), row_group_size=ROWS_PER_GROUP)
            content.add(group)
            n_rows += len(group)
    return Written(n_rows, content.hexdigest())


def read_rows(path: Path, columns: Columns) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a Parquet file in file order, streamed; values in the order of `columns`.

    Raises:
        StorageError: the file is missing, is not Parquet, or has other columns.
        UsageError: pyarrow is not installed.
    """
    arrow = pyarrow_library()
    with storage(path):
        try:
            with arrow.parquet.ParquetFile(path) as file:
                found = {field.name: str(field.type) for field in file.schema_arrow}
                if found != dict(columns):
                    raise ValueError(f"its columns are {found}, expected {dict(columns)}")
                for index in range(file.num_row_groups):
                    table = file.read_row_group(index, columns=list(columns))
                    yield from zip(*(table.column(name).to_pylist() for name in columns), strict=True)
        except (arrow.ArrowException, ValueError) as error:
            raise _refusal(path, error) from error


def _refusal(path: Path, error: Exception) -> StorageError:
    return StorageError(
        f"not a readable Parquet file: {error}",
        where=str(path),
        remedy="check the path; a file of a run is made again by its stage",
    )


def write_documents(path: Path, documents: Iterable[Document]) -> Written:
    """Write documents in ascending order of id, atomically. Return their number and their digest.

    Raises:
        StorageError: the file cannot be written.
        SevenfoldError: ids do not ascend (a defect of the caller: order is part of the format).
    """
    return write_rows(path, DOCUMENT_COLUMNS, _in_order(documents))


def _in_order(documents: Iterable[Document]) -> Iterator[tuple[str, ...]]:
    previous = ""
    for document in documents:
        if document.id <= previous:
            raise SevenfoldError(f"document {document.id} after {previous}: ids must ascend and be unique")
        previous = document.id
        yield (document.id, document.text, document.domain, document.source, document.path)


def read_documents(path: Path) -> Iterator[Document]:
    """Yield the documents of a file in file order, streamed. Raises StorageError and UsageError as
    `read_rows` does.
    """
    for row in read_rows(path, DOCUMENT_COLUMNS):
        yield Document(*row)


def count_rows(path: Path) -> int:
    """Return the number of rows, from the footer alone.

    Raises StorageError when the file is missing or not Parquet.
    """
    arrow = pyarrow_library()
    with storage(path):
        try:
            n_rows: int = arrow.parquet.read_metadata(path).num_rows
        except (arrow.ArrowException, ValueError) as error:
            raise _refusal(path, error) from error
    return n_rows
