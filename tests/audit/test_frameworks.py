"""The tables of OWASP and NIST point at tests that exist."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from sevenfold.release.documents import markdown_table
from sevenfold.release.frameworks import framework_tables, frameworks

ROOT = Path(__file__).resolve().parents[2]


def exists(name: str) -> bool:
    """Return whether a test, or a module with tests, has this name."""
    path, _, function = name.partition("::")
    if not (ROOT / path).is_file():
        return False
    module = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names = {node.name for node in module.body if isinstance(node, ast.FunctionDef)}
    return function in names if function else any(one.startswith("test_") for one in names)


def test_a_name_of_no_test_is_found() -> None:
    here = "tests/audit/test_frameworks.py"
    assert exists(here)
    assert exists(f"{here}::test_a_name_of_no_test_is_found")
    assert not exists(f"{here}::exists_not")
    assert not exists("tests/audit/test_nothing.py")


@pytest.mark.parametrize("framework", frameworks(), ids=lambda framework: framework["title"])
def test_every_row_points_at_tests(framework: dict) -> None:
    for row in framework["row"]:
        assert row["answer"].endswith(".")
        assert row["tests"], row["id"]
        missing = [name for name in row["tests"] if not exists(name)]
        assert not missing, (row["id"], missing)


def test_all_rows_are_there() -> None:
    owasp, nist = frameworks()
    assert [row["id"] for row in owasp["row"]] == [f"LLM{n:02}" for n in range(1, 11)]
    assert [row["id"] for row in nist["row"]] == ["GOVERN", "MAP", "MEASURE", "MANAGE"]
    text = "\n".join(framework_tables(markdown_table))
    assert all(f"| {row['id']} |" in text for row in (*owasp["row"], *nist["row"]))
