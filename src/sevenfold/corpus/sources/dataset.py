"""Read data sets in Parquet or JSON lines: one file, or a directory in the layout of dataset hubs
(`data/train-00000-of-00005.parquet`).

Parquet is read in batches of rows out of one row group at a time, and only the named columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from sevenfold.core.documents import pyarrow_library
from sevenfold.core.errors import StorageError, storage
from sevenfold.corpus.document import SourceDocument, SourceOrigin
from sevenfold.corpus.globs import chooser, walk_tree
from sevenfold.corpus.sources.jsonl import read_lines
from sevenfold.corpus.sources.records import ColumnNames, found_record, keys_of, origin_of
from sevenfold.recipe.corpus_schema import DatasetSource

ROWS_AT_ONCE = 64
_LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".jsonl.bz2", ".jsonl.xz", ".json.gz", ".ndjson")
_DEFAULT = tuple(f"**/*{ending}" for ending in (".parquet", *_LINES))


def read_dataset(source: DatasetSource, base: Path, max_bytes: int) -> Iterator[SourceDocument]:
    """Yield the records of a data set, its files in order of their paths. Raises StorageError and
    RecipeError as `read_source` does.
    """
    keys = keys_of(source)
    origin, root = origin_of(source, keys), base / source.path
    if root.is_dir():
        wants = chooser(source.include or _DEFAULT)
        files = list(walk_tree(root, wants, frozenset()))
    else:
        files = [(PurePosixPath(source.path).name, root)]
    for name, file in files:
        if file.suffix == ".parquet":
            yield from _read_parquet(file, name, keys, origin, max_bytes)
        else:
            yield from read_lines(file, name, keys, origin, max_bytes)


def _read_parquet(
    file: Path, name: str, keys: ColumnNames, origin: SourceOrigin, max_bytes: int
) -> Iterator[SourceDocument]:
    arrow = pyarrow_library()
    number = 0
    with storage(file):
        try:
            with arrow.parquet.ParquetFile(file) as table:
                _require_unique_columns(table.schema_arrow.names, keys, file)
                columns = [column for column in keys.columns() if column in table.schema_arrow.names]
                if keys.text not in columns:
                    listed = ", ".join(table.schema_arrow.names)
                    raise StorageError(
                        f"no column {keys.text!r}; it has {listed}",
                        where=str(file),
                        remedy="name one as text_key",
                    )
                for batch in table.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns):
                    for record in batch.to_pylist():
                        number += 1
                        yield _row(keys, origin, f"{name}:{number}", record, max_bytes)
        except (arrow.ArrowException, ValueError) as error:
            raise StorageError(
                f"not a readable Parquet file, after row {number}: {error}",
                where=str(file),
                remedy="get the file again",
            ) from error


def _require_unique_columns(names: list[str], keys: ColumnNames, file: Path) -> None:
    """Refuse a table in which a column to be read has a namesake. Raises StorageError."""
    if twice := [name for name in keys.columns() if names.count(name) > 1]:
        raise StorageError(
            f"the column {twice[0]!a} stands there twice",
            where=str(file),
            remedy="give one of them another name",
        )


def _row(
    keys: ColumnNames, origin: SourceOrigin, place: str, record: dict[str, Any], max_bytes: int
) -> SourceDocument:
    try:
        return found_record(keys, origin, place, record, max_bytes)
    except (KeyError, TypeError):
        return SourceDocument(origin, place, 0, "", None, "unreadable")
