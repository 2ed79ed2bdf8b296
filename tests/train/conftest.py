"""Directories of real text, once for all tests of the room."""

from __future__ import annotations

from pathlib import Path

import pytest
from families import job_of, mixed_values, write_domains

from sevenfold import pipeline
from sevenfold.recipe.job import Job


@pytest.fixture(scope="session")
def domain_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with a folder for each domain."""
    directory = tmp_path_factory.mktemp("domains")
    write_domains(directory)
    return directory


@pytest.fixture(scope="session")
def mixed_run(tmp_path_factory: pytest.TempPathFactory, domain_dir: Path) -> Job:
    """A run with a mix, trained; tests only read it."""
    job = job_of(mixed_values(), domain_dir, tmp_path_factory.mktemp("run") / "mix")
    pipeline.make(job, until="train")
    return job
