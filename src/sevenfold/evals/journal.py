"""A file of finished rows that survives a kill: one line for each, each with its own digest.

A line that was half written is dropped when the file is opened again, so no row counts twice and none
is lost.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sevenfold.core.errors import StorageError, storage
from sevenfold.core.hashing import Json, canonical_json, digest

_TAG = "sevenfold/eval-row/1"


class Journal:
    """Rows by the id of their item, in the order in which they were finished."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Json] = {}
        with storage(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
            self._file.seek(0)
            n_good = 0
            for line in self._file:
                row = _row_of(line)
                if row is None:
                    break
                self.rows[row["item"]] = row
                n_good += len(line)
            self._file.truncate(n_good)
            self._file.seek(n_good)

    def add(self, rows: list[Json]) -> None:
        """Append finished rows durably; each has the key `item`. Raises StorageError."""
        with storage(self.path):
            for row in rows:
                data = canonical_json(row)
                self._file.write(canonical_json({"row": row, "digest": digest(_TAG, data)}) + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        self.rows |= {row["item"]: row for row in rows}

    def close(self) -> None:
        """Close the file."""
        with storage(self.path):
            self._file.close()


def _row_of(line: bytes) -> Json | None:
    try:
        held = json.loads(line)
        row = held["row"]
        is_whole = line.endswith(b"\n") and held["digest"] == digest(_TAG, canonical_json(row))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return row if is_whole else None


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold a directory of runs: a second process in it is refused. Raises StorageError."""
    with storage(directory):
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / ".lock").open("ab")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(
                "another process evaluates here", where=str(directory), remedy="wait, or name another --out"
            ) from error
        yield
