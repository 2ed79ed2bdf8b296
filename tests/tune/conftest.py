"""A sealed model, and a tuning of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tuning_jobs import tuned

from sevenfold import pipeline
from sevenfold.runs.job import Job


@pytest.fixture(scope="session")
def parent(make_job: Callable[..., Job], tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A sealed model with a context of 128."""
    job = make_job(tmp_path_factory.mktemp("tune") / "tiny-parent", model={"context": 128})
    pipeline.make(job)
    return job


@pytest.fixture(scope="session")
def run(parent: Job, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A finished tuning; tests only read it."""
    job = tuned(parent, tmp_path_factory.mktemp("tuned") / "run")
    pipeline.make(job)
    return job
