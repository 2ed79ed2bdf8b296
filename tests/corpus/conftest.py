"""A small corpus recipe, and a job over a temporary directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from package_builders import store_in

from sevenfold.corpus.fetch import PackageStore
from sevenfold.recipe.schema import Recipe
from sevenfold.runs.job import Job


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Job]:
    """make_job(sources, out="out", **corpus settings) -> Job whose recipe lies in tmp_path."""

    def make(sources: list[dict[str, Any]], *, out: str = "out", **corpus: Any) -> Job:
        corpus = {"licences": ["MIT", "PSF-2.0"], "holdout": 4} | corpus
        recipe = {
            "recipe": 1,
            "name": "tiny",
            "family": "s7",
            "summary": "a corpus for tests",
            "model": {
                "d_model": 8,
                "n_layers": 1,
                "n_heads": 1,
                "n_kv_heads": 1,
                "head_dim": 8,
                "d_ffn": 8,
                "vocab_size": 300,
                "context": 8,
            },
            "tokenizer": {"vocab_size": 300},
            "corpus": {"sources": sources, **corpus},
            "train": {"seed": 1, "tokens": 8, "batch_sequences": 1, "sequence": 8, "learning_rate": 0.001},
        }
        return Job(
            recipe=Recipe.model_validate_json(json.dumps(recipe)), out=tmp_path / out, recipe_dir=tmp_path
        )

    return make


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackageStore:
    """An empty store, where the environment says it is."""
    found = store_in(tmp_path)
    monkeypatch.setenv("S7_PACKAGES", str(found.directory))
    return found
