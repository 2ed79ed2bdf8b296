"""Everything made again: the same root, or the first stage (and step) that differs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sevenfold import pipeline
from sevenfold.audit.full import audit_full
from sevenfold.core.errors import UsageError
from sevenfold.core.log import Silent
from sevenfold.recipe.job import Job
from sevenfold.train import batches


def test_the_same_root_from_the_run_and_from_the_file_alone(
    dense_run: Job, listing: Callable[[Path], object]
) -> None:
    before = listing(dense_run.out)
    value = audit_full(dense_run.out / "model.s7l", dense_run.recipe, dense_run.recipe_dir, Silent())
    assert (value["same"], value["differences"], value["warnings"]) == (True, [], [])
    assert value["actual_root"] == value["expected_root"] == dense_run.manifest("seal").facts["root"]
    assert value["stages"] == list(pipeline.STAGE_NAMES)
    assert listing(dense_run.out) == before


def test_a_changed_corpus_is_the_first_stage_that_differs(dense_run: Job, tmp_path: Path) -> None:
    shutil.copytree(dense_run.recipe_dir / "code", tmp_path / "code")
    victim = tmp_path / "code" / "queue.py"
    victim.write_text(victim.read_text() + "\n# one more line\n")
    value = audit_full(dense_run.out, dense_run.recipe, tmp_path, Silent())
    assert (value["same"], value["first_stage"], value["stages"]) == (False, "corpus", ["corpus"])
    assert value["differences"][0]["expected"] == dense_run.manifest("corpus").root
    assert "corpus/ledger.parquet" in {d["where"] for d in value["differences"]}
    assert value["actual_root"] is None


def test_a_changed_trainer_is_named_with_its_first_step(
    dense_run: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Step 12 reads other windows: as if a later version of the code had another order of the data.
    straight = batches.Batches.starts
    monkeypatch.setattr(
        batches.Batches, "starts", lambda self, step: straight(self, 0 if step == 11 else step)
    )
    value = audit_full(dense_run.out, dense_run.recipe, dense_run.recipe_dir, Silent())
    assert (value["first_stage"], value["first_step"]) == ("train", 12)
    assert value["differences"][1]["where"] == "train/metrics.jsonl"
    alone = audit_full(dense_run.out / "model.s7l", dense_run.recipe, dense_run.recipe_dir, Silent())
    assert (alone["first_stage"], alone["first_step"]) == ("train", 12)
    assert alone["differences"][1]["where"] == "model.s7l LANE"


def test_a_recipe_that_is_not_the_sealed_one(dense_run: Job) -> None:
    train = dense_run.recipe.train.model_copy(update={"learning_rate": 0.02})
    other = dense_run.recipe.model_copy(update={"train": train})
    value = audit_full(dense_run.out, other, dense_run.recipe_dir, Silent())
    assert [d["field"] for d in value["differences"]] == ["train.learning_rate"]
    assert value["stages"] == []


def test_relative_sources_need_the_recipe_file(dense_run: Job) -> None:
    with pytest.raises(UsageError, match="--recipe"):
        audit_full(dense_run.out, None, None, Silent())


def test_the_sealed_recipe_is_enough_when_its_sources_are_absolute(
    dense_run: Job, make_job: Callable[..., Job], tmp_path: Path
) -> None:
    source = dense_run.recipe.corpus.sources[0].model_dump() | {"path": str(dense_run.recipe_dir / "code")}
    job = replace(make_job(tmp_path / "run", corpus={"sources": (source,)}), recipe_dir=Path())
    pipeline.make(job)
    assert audit_full(job.out, None, None, Silent())["same"] is True
