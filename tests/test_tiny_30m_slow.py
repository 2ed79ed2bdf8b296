"""llama/tiny-30m the whole way (E7): its real shape, its 32,000-piece tokenizer, from
text to a sealed file that runs.

Cut: the standard library and NumPy's sources instead of the pinned corpus, and 24 short steps.
`s7 make` of the recipe does the same at full length.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sevenfold import pipeline
from sevenfold.artifact import read_artifact, verify
from sevenfold.core.process.log import Silent
from sevenfold.engine.session import Model, replay
from sevenfold.recipe.loader import load_recipe
from sevenfold.recipe.schema import Recipe
from sevenfold.recipe.shipped import recipe_paths
from sevenfold.runs.job import Job
from sevenfold.train.recording.meters import peak_memory

pytestmark = pytest.mark.slow
STEPS, BATCH, SEQUENCE = 24, 2, 256


def cut(recipe: Recipe) -> Recipe:
    """The recipe with a small corpus and few steps; model, tokenizer,
    precision and optimiser are its own.
    """
    values: dict[str, Any] = json.loads(json.dumps(recipe.resolved()))
    # The standard library alone gives 31,184 pieces.
    more = {
        "kind": "directory",
        "path": str(Path(np.__file__).parent),
        "licence": "BSD-3-Clause",
        "include": ["**/*.py"],
    }
    values["corpus"] |= {
        "sources": [{"kind": "stdlib"}, more],
        "mix": {},
        "holdout": 100,  # all of it is scored
    }
    values["train"] |= {
        "tokens": STEPS * BATCH * SEQUENCE,
        "batch_sequences": BATCH,
        "sequence": SEQUENCE,
        "warmup_ratio": 0.2,
    }
    values["quantize"]["eval_windows"] = 4
    return Recipe.model_validate_json(json.dumps(values))


def test_the_whole_way(tmp_path: Path) -> None:
    recipe = cut(load_recipe(recipe_paths()["llama/tiny-30m"]))
    job = Job(recipe=recipe, out=tmp_path / "run", recipe_dir=tmp_path, progress=Silent())
    assert pipeline.make(job) == ["corpus", "tokenizer", "train", "quantize", "seal"]
    facts = job.manifest("train").facts
    rows = [json.loads(line) for line in (job.directory("train") / "metrics.jsonl").read_bytes().splitlines()]
    print(
        json.dumps(
            {"facts": facts, "first": rows[0]["loss"], "last": rows[-1]["loss"], "peak": peak_memory()}
        )
    )
    assert (len(rows), facts["n_parameters"]) == (STEPS, 29_499_264)
    assert rows[-1]["loss"] < rows[0]["loss"] - 1.0
    path = job.out / "model.s7l"
    verification = verify(read_artifact(path), replay)
    assert verification.ok, verification.as_json()
    model = Model.open(path, backend="native")
    assert model.tokenizer.vocab_size == 32_000
    with model.session("def add(a, b):\n    return") as session:
        assert session.logits is not None
        assert len(session.logits) == 32_000
