"""Store finished rows in a file that survives a kill. Each row is a line with its own digest.

A partly written line is dropped when the file is opened again, so no row counts twice and no
finished row is lost.
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
    """The rows by the id of their item, in the order in which they were finished."""

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
        """Append finished rows and sync them to disk. Each has the key `item`. Raises StorageError."""
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
    """Lock a directory of runs. A second process in it is refused. Raises StorageError."""
    with storage(directory):
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / ".lock").open("ab")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(
                "another process evaluates here",
                where=str(directory),
                remedy="wait for it, or choose another --out",
            ) from error
        yield
