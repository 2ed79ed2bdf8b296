"""Figures of pages are those of benchmarks/results."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path("benchmarks") / "engine_tables.py"


def check(root: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, root / SCRIPT, "--check"], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.subprocess
def test_the_engine_s_tables_are_made_of_the_results(tmp_path: Path) -> None:
    assert check(ROOT) == (0, "")
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    pages = {
        name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/how-to/speed.md")
    }
    (tmp_path / "docs" / "how-to").mkdir(parents=True)
    for wrong in pages:
        for name, text in pages.items():
            other = text.replace("| 8M | prompt of 512 | ", "| 8M | prompt of 512 | 9")
            (tmp_path / name).write_text(other if name == wrong else text)
        assert check(tmp_path) == (1, f"{wrong} has other tables than benchmarks/results\n")


def test_the_front_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
