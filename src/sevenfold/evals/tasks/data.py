"""Read evaluation sets from a directory of the user, and check them against a table of digests.

Nothing is downloaded. A set whose bytes differ from the table is refused, because a score on other
data is another score.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import os
import tomllib
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from sevenfold.core.errors import StorageError
from sevenfold.core.files import read_bytes
from sevenfold.core.hashing import Json, digest_of, sha256

DATA_VARIABLE = "SEVENFOLD_DATA"
_TEXT = "\t\n\r"


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """One row of the table."""

    name: str
    files: str
    digest: str
    licence: str
    origin: str

    @property
    def is_given(self) -> bool:
        """Return whether its data may be used here. ARC-Challenge may not be redistributed."""
        return bool(self.files)


@cache
def sets() -> dict[str, EvaluationSet]:
    """Return the table of sets, by name."""
    table = tomllib.loads(files(__package__).joinpath("data.toml").read_text(encoding="utf-8"))
    return {name: EvaluationSet(name=name, **row) for name, row in table["set"].items()}


def data_directory(given: Path | None) -> Path:
    """Return the directory of the sets: the given one, else `eval` in the directory that
    SEVENFOLD_DATA names.

    Raises:
        StorageError: neither is a directory.
    """
    named = os.environ.get(DATA_VARIABLE, "")
    path = given or (Path(named) / "eval" if named else None)
    if path is None or not path.is_dir():
        raise StorageError(
            "no evaluation data",
            where=str(path or "--data"),
            remedy=f"name their directory with --data, or set {DATA_VARIABLE} (specs/evaluation.md)",
        )
    return path


def read_set(name: str, directory: Path) -> dict[str, bytes]:
    """Return the files of a set by their path below `directory`, after checking them against the
    table.

    Raises:
        StorageError: a file is missing or altered.
    """
    row = sets()[name]
    paths = sorted(directory.glob(row.files)) if row.is_given else []
    if not paths:
        raise StorageError(
            f"the evaluation set {name} is not here ({row.licence})",
            where=str(directory / row.files),
            remedy=f"get it from its authors ({row.origin})",
        )
    found = {path.relative_to(directory).as_posix(): read_bytes(path) for path in paths}
    parts = [part for path, data in found.items() for part in (path, sha256(data))]
    digest = digest_of("sevenfold/eval-data/1", parts)
    if digest != row.digest:
        raise StorageError(
            f"the evaluation set {name} is not the one of the table: {digest[:16]}, not {row.digest[:16]}",
            where=str(directory / row.files),
            remedy="get the set again, because a score on other data is another score",
        )
    return found


def plain(text: str) -> str:
    """Return a text of a set without control characters other than TAB, LF and CR, which prompts
    may contain.
    """
    return "".join(c for c in text if unicodedata.category(c) != "Cc" or c in _TEXT)


def json_lines(data: bytes) -> list[Json]:
    """Return the rows of a JSON Lines file, which may be compressed with gzip."""
    text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def csv_rows(data: bytes) -> list[list[str]]:
    """Return the rows of a CSV file without its header."""
    return list(csv.reader(io.StringIO(data.decode("utf-8"))))[1:]


def six_lines(data: bytes) -> list[tuple[str, int, list[str]]]:
    """Return (context, label, endings) of each item in the file of HellaSwag."""
    lines = bz2.decompress(data).decode("utf-8").splitlines()
    return [
        (lines[start], int(lines[start + 1]), lines[start + 2 : start + 6])
        for start in range(0, len(lines) - 5, 6)
    ]
