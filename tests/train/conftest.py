"""Directories of real text, once for all tests of the room."""

from __future__ import annotations

from pathlib import Path

import pytest
from families import job_of, mixed_values, objective_values, write_domains, write_reasoning

from sevenfold import pipeline
from sevenfold.runs.job import Job


@pytest.fixture(scope="session")
def domain_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with a folder for each domain."""
    directory = tmp_path_factory.mktemp("domains")
    write_domains(directory)
    write_reasoning(directory)
    return directory


@pytest.fixture(scope="session")
def mixed_run(tmp_path_factory: pytest.TempPathFactory, domain_dir: Path) -> Job:
    """A run with a mix, trained; tests only read it."""
    job = job_of(mixed_values(), domain_dir, tmp_path_factory.mktemp("run") / "mix")
    pipeline.make(job, until="train")
    return job


@pytest.fixture(scope="session")
def objective_run(tmp_path_factory: pytest.TempPathFactory, domain_dir: Path) -> Job:
    """A run with three objectives and dropout, trained; tests only read it."""
    job = job_of(objective_values(), domain_dir, tmp_path_factory.mktemp("run") / "objectives")
    pipeline.make(job, until="train")
    return job
