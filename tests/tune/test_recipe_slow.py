"""The recipe that ships, on the model that ships, with little data and two steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from sevenfold import pipeline
from sevenfold.artifact import read_artifact
from sevenfold.core.shipped_models import shipped_models
from sevenfold.recipe import load_recipe, resolve_recipe_path
from sevenfold.recipe.schema import Recipe
from sevenfold.runs.job import Job


@pytest.mark.slow
def test_the_shipped_model_is_tuned_by_the_shipped_recipe(tmp_path: Path) -> None:
    path = resolve_recipe_path("s7/tune-demo")
    recipe = load_recipe(path)
    parent = recipe.train.parent
    assert parent is not None
    assert parent.root == shipped_models()["demo-1m"].root
    values = recipe.model_dump(by_alias=True)
    made = values["corpus"]["sources"][1] | {"generators": {"python-function": 80}}
    values["corpus"] |= {"sources": (made,), "mix": {}, "holdout": 4}
    values["train"] |= {"tokens": 2 * 4 * 512, "batch_sequences": 4}
    values["quantize"] |= {"eval_windows": 2, "min_top1_agreement": 0.0, "max_bpb_increase": 0.02}
    job = Job(recipe=Recipe(**values), out=tmp_path / "run", recipe_dir=path.parent)
    pipeline.make(job)
    facts = read_artifact(job.out / "model.s7l").provenance["identity"]["facts"]["train"]
    assert facts["trunk"]["parents"][0]["root"] == parent.root
    assert facts["tune"]["counts"]["samples"] > 20
    assert facts["tune"]["left_out"] == {}
