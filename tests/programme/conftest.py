"""A model with its documents, as one that ships."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sevenfold.artifact import read_artifact
from sevenfold.release.documents import write_release_documents
from sevenfold.runs.job import Job


@pytest.fixture
def shipped(dense_run: Job, tmp_path: Path) -> Path:
    """A copy of the sealed file of a run, and of the documents beside it."""
    for path in dense_run.out.glob("model.*"):
        shutil.copy(path, tmp_path / path.name)
    file = tmp_path / "model.s7l"
    write_release_documents(read_artifact(file))
    return file
