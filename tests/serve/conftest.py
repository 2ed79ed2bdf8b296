"""A small model with the tokens of fill-in-middle, and servers that answer on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving_client import Client, serving

from sevenfold import pipeline
from sevenfold.engine.session import Model
from sevenfold.runs.job import Job

SPECIALS = ("<|endoftext|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory, make_job: Callable[..., Job]) -> Path:
    """A sealed model of 256 positions."""
    job = make_job(
        tmp_path_factory.mktemp("served") / "run",
        tokenizer={"special_tokens": SPECIALS},
        model={"context": 256},
        train={"tokens": 10 * 4 * 64},
    )
    pipeline.make(job)
    return job.out / "model.s7l"


@pytest.fixture(scope="session")
def model(model_path: Path) -> Model:
    """The model, opened."""
    return Model.open(model_path)


@pytest.fixture(scope="session")
def client(model_path: Path) -> Iterator[Client]:
    """A server with the usual limits."""
    yield from serving([model_path])


@pytest.fixture
def locked(model_path: Path) -> Iterator[Client]:
    """A server with keys."""
    yield from serving([model_path], keys=("one", "two"), admin_key="admin")
