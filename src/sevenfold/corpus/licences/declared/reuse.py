"""Read the licences that REUSE states: `REUSE.toml`, `.reuse/dep5`, and sidecars `NAME.license`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import Any

from sevenfold.corpus.licences.declared.debian import DebianCopyright, parse_copyright
from sevenfold.corpus.licences.path_patterns import PathPattern, reuse_pattern
from sevenfold.corpus.licences.policy import UNRECOGNISED, is_valid

NAMES = ("REUSE.toml", "dep5")


@dataclass(frozen=True, slots=True)
class Annotations:
    """Tables of one REUSE.toml: (patterns, expressions). The last that matches a file applies."""

    rows: tuple[tuple[tuple[PathPattern, ...], tuple[str, ...]], ...]

    def licence_of(self, path: str) -> tuple[str, ...]:
        """Return the expressions for a path relative to the folder of the file. All apply."""
        for patterns, expressions in reversed(self.rows):
            if any(pattern.matches(path) for pattern in patterns):
                return expressions
        return ()


def is_reuse(path: str) -> bool:
    """Return whether a file is one of REUSE's files about other files."""
    return path.rpartition("/")[2] == "REUSE.toml" or path == ".reuse/dep5" or path.endswith("/.reuse/dep5")


def read_annotations(data: bytes) -> Annotations:
    """Return the tables of a REUSE.toml. Raises ValueError for one that cannot be understood."""
    tables: Any = tomllib.loads(data.decode("utf-8-sig")).get("annotations", [])
    if not isinstance(tables, list):
        raise ValueError("annotations is no list of tables")
    rows = []
    for table in tables:
        if not isinstance(table, dict):
            raise ValueError("an annotation is no table")
        paths, said = _strings(table.get("path")), _strings(table.get("SPDX-License-Identifier", []))
        if not paths:
            raise ValueError("an annotation without a path")
        expressions = tuple(s if is_valid(s) else UNRECOGNISED for s in said)
        rows.append((tuple(reuse_pattern(path) for path in paths), expressions))
    return Annotations(tuple(rows))


def read_dep5(data: bytes) -> DebianCopyright:
    """Return the paragraphs of a `.reuse/dep5`. Raises ValueError for one that is none."""
    found = parse_copyright(data)
    if found is None:
        raise ValueError("not in the machine-readable form")
    return found


def _strings(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in values):
        raise ValueError("not text")
    return values
