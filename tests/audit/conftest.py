"""Copies of a finished tiny run that tests may damage, and what tells
whether a directory was touched.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sevenfold.runs.job import Job

# The golden runs of tests/train: a recipe of every kind on synthetic tokens.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Job], Path]:
    """copied(job) -> directory of a copy of its run."""

    def copy(job: Job) -> Path:
        return Path(shutil.copytree(job.out, tmp_path / "copy"))

    return copy


@pytest.fixture(scope="session")
def listing() -> Callable[[Path], dict[str, tuple[int, bytes]]]:
    """listing(directory) -> every file with its time of change and its bytes."""

    def files(directory: Path) -> dict[str, tuple[int, bytes]]:
        return {
            str(p.relative_to(directory)): (p.stat().st_mtime_ns, p.read_bytes())
            for p in sorted(directory.rglob("*"))
            if p.is_file()
        }

    return files
