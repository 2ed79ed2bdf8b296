"""The record of tool calls: one line of JSON for each, each bound to the one before it.

A line is `{"digest": D, "record": R}` in canonical JSON; `previous` of a record is the digest of the
line before. A line is appended at once and synced, so a kill loses the call that runs, and no other.
A last line that was half written is dropped when the file is opened again. specs/tools.md.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sevenfold.core.errors import ArtifactError, StorageError, storage
from sevenfold.core.hashing import Json, canonical_json, digest

FORMAT = 1
_TAG = "sevenfold/tool-call/1"
_BEGIN = "0" * 64
# What every line begins with.
_HEAD = b'{"digest":"'
_TYPES = {
    **dict.fromkeys(("format", "number"), int),
    **dict.fromkeys(("previous", "model_root", "tools", "call_digest", "outcome", "reason"), str),
    **dict.fromkeys(("result", "result_digest"), str),
    **dict.fromkeys(("call", "budget_left"), dict),
}
# Of a call that was read, and of an answer that was none.
_CALLS = ({"name": str, "arguments": dict}, {"text": str})


class ToolLogError(ArtifactError):
    """A record that was changed, or is none."""


@dataclass(frozen=True, kw_only=True)
class LoggedCall:
    """One record as it was read."""

    line: int
    value: dict[str, Json]


def text_digest(text: str) -> str:
    """Return the digest by which a record names a text."""
    return digest("sevenfold/tool-text/1", text)


class ToolLog:
    """A file that records are appended to. One process writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        with storage(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
        if not path.is_file():
            self._file.close()
            raise StorageError("it is no file", where=str(path), remedy="name a file")
        try:
            self._begin()
        except BaseException:
            self._file.close()
            raise

    def _begin(self) -> None:
        with storage(self.path):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StorageError(
                    "another process writes this record", where=str(self.path), remedy="name another file"
                ) from error
            self._file.seek(0)
            data = self._file.read()
            n_whole = _n_whole(data, str(self.path))
            self._previous, self._number = _BEGIN, 0
            for held, _ in _lines(data[:n_whole], str(self.path)):
                self._previous, self._number = held, self._number + 1
            if n_whole < len(data):
                self._file.truncate(n_whole)

    def add(self, value: dict[str, Json]) -> None:
        """Append a record durably. Raises StorageError: then the call has no record, and must fail."""
        with self._lock, storage(self.path):
            record = {"format": FORMAT, "number": self._number, "previous": self._previous, **value}
            held = digest(_TAG, canonical_json(record))
            self._append(canonical_json({"digest": held, "record": record}) + b"\n")
            self._previous, self._number = held, self._number + 1

    def _append(self, line: bytes) -> None:
        """Write a line durably, or nothing of it."""
        n_before = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, "half a record")
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(n_before)
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_tool_log(path: Path) -> list[LoggedCall]:
    """Return the records of a file, each checked. A half-written last line is none.

    Raises:
        StorageError: the file cannot be read.
        ToolLogError: a record was changed, moved or left out; the line is named.
    """
    with storage(path):
        data = path.read_bytes()
    found = _lines(data[: _n_whole(data, str(path))], str(path))
    return [LoggedCall(line=number, value=record) for number, (_, record) in enumerate(found, start=1)]


def _n_whole(data: bytes, where: str) -> int:
    """Return how many bytes are whole lines. Raises ToolLogError: what is left begins no record."""
    n = data.rfind(b"\n") + 1
    rest = data[n : n + len(_HEAD)]
    if not _HEAD.startswith(rest):
        number = len(data[:n].splitlines()) + 1
        raise ToolLogError("it is no record of a call", where=f"{where}:{number}")
    return n


def _lines(data: bytes, where: str) -> Iterator[tuple[str, dict[str, Json]]]:
    previous = _BEGIN
    for number, line in enumerate(data.splitlines()):
        place = f"{where}:{number + 1}"
        try:
            value = json.loads(line)
            held, record = value["digest"], value["record"]
            is_whole = line == canonical_json({"digest": held, "record": record})
            is_whole = is_whole and held == digest(_TAG, canonical_json(record))
            is_next = (record["format"], record["number"], record["previous"]) == (FORMAT, number, previous)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ToolLogError("it is no record of a call", where=place) from error
        if not is_whole:
            raise ToolLogError("the record was changed", where=place)
        if not is_next:
            raise ToolLogError("it does not follow the record before it", where=place)
        if not (_is_of(record, _TYPES) and any(_is_of(record["call"], types) for types in _CALLS)):
            raise ToolLogError("the record has other keys", where=place)
        previous = held
        yield held, record


def _is_of(value: dict[str, Json], types: Mapping[str, type]) -> bool:
    return value.keys() == types.keys() and all(isinstance(value[key], kind) for key, kind in types.items())
