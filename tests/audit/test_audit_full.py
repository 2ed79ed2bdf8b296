"""Everything made again: the same root, or the first stage (and step) that differs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sevenfold import pipeline
from sevenfold.audit import full
from sevenfold.audit.full import audit_full, default_work
from sevenfold.audit.preconditions import tool_warnings
from sevenfold.core.errors import UsageError
from sevenfold.core.process.log import Silent
from sevenfold.core.run_files import AUDIT
from sevenfold.runs.job import Job
from sevenfold.train.data import windows


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, for this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Notes(Silent):
    """A listener that keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


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
    straight = windows.Batches.batch
    monkeypatch.setattr(
        windows.Batches, "batch", lambda self, step: straight(self, 0 if step == 11 else step)
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


def test_a_stopped_audit_goes_on(dense_run: Job, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stage = pipeline.run_stage

    def stop(job: Job, row: pipeline.Stage) -> bool:
        if row.name == "train":
            raise KeyboardInterrupt
        return run_stage(job, row)

    with monkeypatch.context() as patch:
        patch.setattr(full.pipeline, "run_stage", stop)
        stopped = Notes()
        with pytest.raises(KeyboardInterrupt):
            audit_full(dense_run.out, dense_run.recipe, dense_run.recipe_dir, stopped)
    [work] = (cache / "sevenfold").iterdir()
    assert stopped.lines[-1] == (
        f"audit: stopped; what is done is kept in {work}, and the same command goes on there"
    )
    assert work == default_work(dense_run.manifest("seal").facts["root"])
    notes = Notes()
    value = audit_full(dense_run.out, dense_run.recipe, dense_run.recipe_dir, notes)
    assert (value["same"], value["stages"]) == (True, list(pipeline.STAGE_NAMES))
    skipped = [line for line in notes.lines if line.endswith("up to date")]
    assert skipped == ["corpus: up to date", "tokenizer: up to date"]
    assert notes.lines[-1] == "audit: stage 5 of 5, seal: the same as sealed"
    assert not work.exists()  # the next audit makes everything again


def test_a_named_directory_is_kept_and_no_audit_begins_with_finished_work(
    dense_run: Job, cache: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    value = audit_full(dense_run.out, dense_run.recipe, dense_run.recipe_dir, Silent(), work)
    assert value["same"] is True
    assert (work / "model.s7l").read_bytes() == (dense_run.out / "model.s7l").read_bytes()
    assert not cache.exists()
    # Finished work, the run itself, or a copy of it: to compare these with
    # the seal would prove nothing.
    for other in (work, dense_run.out, Path(shutil.copytree(dense_run.out, tmp_path / "copy"))):
        before = sorted(other.rglob("*"))
        with pytest.raises(UsageError, match="--work"):
            audit_full(dense_run.out, dense_run.recipe, dense_run.recipe_dir, Silent(), other)
        assert sorted(other.rglob("*")) == before


def test_unfinished_work_of_another_file_is_refused(dense_run: Job, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / AUDIT).write_text('{"audit":"full","root":"00"}')
    with pytest.raises(UsageError, match="not this audit's"):
        audit_full(dense_run.out, dense_run.recipe, dense_run.recipe_dir, Silent(), tmp_path / "work")


def test_what_decides_no_bit_under_the_law_is_no_warning() -> None:
    recorded = {
        "torch": "2.11",
        "cpu_capability": "AVX2",
        "machine": "aarch64",
        "numpy": "1",
        "sevenfold": "0",
    }
    here = {"torch": "2.13", "cpu_capability": "AVX512", "machine": "x86_64", "numpy": "2", "sevenfold": "1"}
    assert tool_warnings("train", recorded, here, is_law=True) == [
        "train: numpy is 2 here, was 1",
        "train: sevenfold is 1 here, was 0",
    ]
    assert len(tool_warnings("train", recorded, here, is_law=False)) == 5
    assert tool_warnings("train", None, here, is_law=False) == []
