"""Stages meet in files: up to date, forced, damaged, interrupted, two at once;
and the same root every time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sevenfold import pipeline
from sevenfold.artifact import read_artifact, training_values, verify_part
from sevenfold.artifact.errors import ExistingArtifactError
from sevenfold.core.errors import ArtifactError, StorageError, UsageError
from sevenfold.core.manifest import read_manifest
from sevenfold.pipeline.finish import finish
from sevenfold.runs import lock
from sevenfold.runs.job import Job

MakeJob = Callable[..., Job]


def test_the_same_command_gives_the_same_artifact(
    finished_run: Job, tmp_path: Path, make_job: MakeJob
) -> None:
    shape = finished_run.recipe.name.removeprefix("tiny-")
    again = make_job(tmp_path / "again", shape)
    pipeline.make(again)
    assert (again.out / "model.s7l").read_bytes() == (finished_run.out / "model.s7l").read_bytes()
    for stage in pipeline.STAGE_NAMES:
        assert again.manifest(stage) == finished_run.manifest(stage)


def test_up_to_date_stages_are_skipped_and_say_so(finished_run: Job) -> None:
    notes: list[str] = []

    class Notes:
        def start(self, *_: object) -> None: ...
        def advance(self, *_: object, **__: object) -> None: ...
        def note(self, text: str) -> None:
            notes.append(text)

    job = Job(
        recipe=finished_run.recipe,
        out=finished_run.out,
        recipe_dir=finished_run.recipe_dir,
        progress=Notes(),  # type: ignore[arg-type]  # a listener in spirit
    )
    assert pipeline.make(job) == []
    assert notes == [f"{name}: up to date" for name in pipeline.STAGE_NAMES]


@pytest.mark.parametrize(
    ("section", "change", "expected"),
    [
        ("seal", {"golden_prompts": ("class ",)}, ["seal"]),
        ("quantize", {"eval_windows": 4}, ["quantize", "seal"]),
        ("train", {"seed": 4}, ["train", "quantize", "seal"]),
        ("corpus", {"holdout": 3}, ["corpus", "tokenizer", "train", "quantize", "seal"]),
    ],
)
def test_a_change_runs_what_depends_on_it(
    section: str, change: dict[str, Any], expected: list[str], tmp_path: Path, make_job: MakeJob
) -> None:
    pipeline.make(make_job(tmp_path))
    before = (tmp_path / "model.s7l").read_bytes()
    changed = make_job(tmp_path, **{section: change})
    with pytest.raises(ExistingArtifactError, match="--replace") as caught:
        pipeline.make(changed)
    assert caught.value.exit_code == 4
    assert (tmp_path / "model.s7l").read_bytes() == before
    changed = replace(changed, replace=True)
    assert pipeline.make(changed) == expected
    for stage in pipeline.STAGE_NAMES:
        assert changed.manifest(stage).recipe_digest == changed.recipe.digest


def test_training_weights_are_sealed_on_request_and_come_back_bit_for_bit(
    tmp_path: Path, make_job: MakeJob
) -> None:
    from safetensors.numpy import load_file

    plain = make_job(tmp_path)
    pipeline.make(plain)
    without = read_artifact(tmp_path / "model.s7l")
    whole = replace(plain, with_training_weights=True)
    with pytest.raises(ExistingArtifactError, match=without.root):
        pipeline.make(whole)
    assert pipeline.make(replace(whole, replace=True)) == ["seal"]
    artifact = read_artifact(tmp_path / "model.s7l")
    held = {
        name.removeprefix("training."): training_values(artifact.tensors[name])
        for name, record in artifact.records.items()
        if record.training
    }
    floats = load_file(tmp_path / "train" / "model.safetensors")
    assert held.keys() == floats.keys()
    assert all(held[name].tobytes() == floats[name].tobytes() for name in floats)
    assert all(held[name].shape == floats[name].shape for name in floats)
    assert verify_part(artifact, "training").n_bytes > 4 * sum(v.size for v in floats.values())
    for name, tensor in without.tensors.items():
        assert artifact.tensors[name].data.tobytes() == tensor.data.tobytes()
    assert finish(replace(whole, replace=True))["verification"]["ok"]  # engines ignore them
    assert pipeline.make(replace(plain, replace=True)) == ["seal"]
    assert read_artifact(tmp_path / "model.s7l").root == without.root


def test_a_changed_source_file_runs_everything(tmp_path: Path, make_job: MakeJob) -> None:
    first = make_job(tmp_path / "out", corpus={"holdout": 2})
    source = tmp_path / "source" / "code"
    source.mkdir(parents=True)
    for path in (first.recipe_dir / "code").iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    job = Job(recipe=first.recipe, out=first.out, recipe_dir=tmp_path / "source")
    pipeline.make(job, until="corpus")
    assert pipeline.make(job, until="corpus") == []
    (source / "extra.py").write_text("value = 1\n")
    assert pipeline.make(job, until="corpus") == ["corpus"]


def test_a_damaged_output_is_made_again(tmp_path: Path, make_job: MakeJob) -> None:
    job = make_job(tmp_path)
    pipeline.make(job, until="tokenizer")
    path = job.directory("tokenizer") / "train.tokens"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert pipeline.make(job, until="tokenizer") == ["tokenizer"]


def test_force_runs_an_up_to_date_stage_and_changes_nothing(
    dense_run: Job, tmp_path: Path, make_job: MakeJob
) -> None:
    job = make_job(tmp_path)
    pipeline.make(job)
    assert pipeline.make(job, force="train") == ["train"]
    assert job.manifest("seal") == dense_run.manifest("seal")


def test_a_stage_that_fails_leaves_no_manifest(
    tmp_path: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sevenfold.quantize import seal

    job = make_job(tmp_path)
    pipeline.make(job)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(seal, "write_artifact", full)
    with pytest.raises(OSError, match="space"):
        pipeline.make(job, force="seal")
    assert read_manifest(job.directory("seal")) is None


def test_a_stage_before_its_inputs_says_what_to_run(tmp_path: Path, make_job: MakeJob) -> None:
    with pytest.raises(StorageError, match="--until tokenizer"):
        pipeline.run_stage(make_job(tmp_path), pipeline.find_stage("train"))
    with pytest.raises(UsageError, match="corpus, tokenizer"):
        pipeline.find_stage("trian")


def test_two_processes_in_one_directory_are_refused(tmp_path: Path) -> None:
    with (
        pipeline.exclusive(tmp_path),
        pytest.raises(StorageError, match="another s7 process"),
        pipeline.exclusive(tmp_path),
    ):
        pytest.fail("the second holder was let in")
    with pipeline.exclusive(tmp_path):
        pass


@pytest.mark.parametrize(
    "name", ["tokenizer/mine.txt", "corpus/data.parquet", "train", "recipe.json", "report.html", "seal/x"]
)
def test_a_directory_with_files_of_somebody_else_is_refused(
    name: str, tmp_path: Path, make_job: MakeJob
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"mine": 1}')
    with pytest.raises(StorageError, match=r"no run of s7 made.*choose another --out"):
        pipeline.make(make_job(tmp_path), until="corpus")
    assert path.read_text() == '{"mine": 1}'
    assert {p.name for p in tmp_path.iterdir()} == {name.partition("/")[0]}


def test_the_lock_knows_every_name_of_a_run(dense_run: Job) -> None:
    assert set(pipeline.STAGE_NAMES) < set(lock.NAMES)
    finish(dense_run)
    written = {path.name for path in dense_run.out.iterdir()}
    own = {lock.LOCK, lock.RECIPE, *lock.NAMES, "model.s7l"}
    assert {name for name in written - own if not name.startswith("model.")} == set()


def test_a_recipe_of_the_user_beside_is_kept(tmp_path: Path, make_job: MakeJob) -> None:
    job = make_job(tmp_path)
    theirs = json.dumps(job.recipe.model_dump(mode="json"), indent=1)  # a recipe, but not as a run writes it
    (tmp_path / "recipe.json").write_text(theirs)
    with pytest.raises(StorageError, match=r"recipe\.json"):
        pipeline.make(job, until="corpus")
    assert (tmp_path / "recipe.json").read_text() == theirs


def test_other_files_beside_do_not_matter_and_a_copy_of_a_run_goes_on(
    tmp_path: Path, make_job: MakeJob
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    pipeline.make(make_job(tmp_path / "run"), until="tokenizer")
    (tmp_path / "run" / ".lock").unlink()
    assert pipeline.make(make_job(tmp_path / "run"), until="tokenizer") == []
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_finish_writes_views_and_a_summary(dense_run: Job) -> None:
    summary = finish(dense_run)
    assert [row["status"] for row in summary["verification"]["rows"]] == ["pass"] * 8
    assert json.loads((dense_run.out / "completions.json").read_bytes()) == summary["completions"]
    page = Path(summary["report"]).read_text()
    assert summary["root"] in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert 'src="http' not in page


def test_finish_refuses_a_file_that_was_touched(tmp_path: Path, make_job: MakeJob) -> None:
    job = make_job(tmp_path)
    pipeline.make(job)
    path = job.out / "model.s7l"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(ArtifactError):
        finish(job)
