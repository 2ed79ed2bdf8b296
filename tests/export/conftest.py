"""Runs and runtimes for the export room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sevenfold import pipeline
from sevenfold.export.proof import parity, parity_corpus, runtimes
from sevenfold.runs.job import Job

LINES = parity_corpus.library_lines()
LLAMA = {"tokenizer": {"pieces": "llama3"}, "model": {"n_kv_heads": 1}}


@pytest.fixture(scope="session")
def llama_run(tmp_path_factory: pytest.TempPathFactory, make_job: Callable[..., Job]) -> Path:
    """A trained dense run with grouped queries whose text other runtimes
    cut the same way; not sealed.
    """
    job = make_job(tmp_path_factory.mktemp("run") / "llama", **LLAMA)
    pipeline.make(job, until="train")
    return job.out


@pytest.fixture(autouse=True)
def fewer_texts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fast tests ask about 200 lines; the slow suite about all 20,000."""
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(parity_corpus, "library_lines", lambda: LINES[:200])
        monkeypatch.setattr(parity, "LONG_LINE", 1000)
        monkeypatch.setattr(parity, "STEPS", 16)


@pytest.fixture
def interop() -> None:
    """Skips, and says why, where the runtimes are not built."""
    if runtimes.interop_home() is None or runtimes.go_program() is None:
        pytest.skip("llama.cpp and the Go program are not here: run `make interop`")
