"""The tables of two frameworks, OWASP and NIST: what is done about each row, and by which tests."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

from sevenfold.core.hashing import Json


def frameworks() -> list[dict[str, Any]]:
    """Return each framework: `title`, and `row` with id, name, answer, tests and perhaps gap."""
    table = tomllib.loads(files(__package__).joinpath("frameworks.toml").read_text(encoding="utf-8"))
    return list(table.values())


def framework_tables(table: Callable[[Sequence[str], Sequence[Sequence[Json]]], list[str]]) -> list[str]:
    """Return the tables as lines of Markdown.

    Args:
        table: makes the lines of a Markdown table of plain text.
    """
    lines: list[str] = []
    for framework in frameworks():
        rows = [
            (row["id"], row["name"], row["answer"], row.get("gap", ""), ", ".join(row["tests"]))
            for row in framework["row"]
        ]
        head = ("row", "about", "what is done", "what is not", "tests")
        lines += [f"## {framework['title']}", "", *table(head, rows)]
    return lines
