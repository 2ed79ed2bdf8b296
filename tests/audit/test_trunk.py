"""Runs that go on from a trunk (`train.from`): the same bytes however they came about, audited like
any other, and refused by name where the trunk is not the one that the recipe names.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import families
import pytest
import torch
from families import branch_values, job_of, outputs, trunk_values, write_domains
from typer.testing import CliRunner

from sevenfold import pipeline
from sevenfold.artifact import read_artifact
from sevenfold.audit.full import audit_full
from sevenfold.audit.replay import audit_steps
from sevenfold.audit.reproduce import reproduce
from sevenfold.audit.steps.check import check_step
from sevenfold.audit.steps.export import export_step
from sevenfold.cli import app
from sevenfold.core.errors import PolicyError, RecipeError, StorageError, UsageError
from sevenfold.core.hashing import canonical_json
from sevenfold.core.process.log import Silent
from sevenfold.recipe.policy import check_policies
from sevenfold.recipe.schema import Recipe
from sevenfold.release.lineage import lineage
from sevenfold.release.target import sealed_file
from sevenfold.runs.job import Job
from sevenfold.train.checkpoints import trunk as trunk_module
from sevenfold.train.checkpoints.checkpoint import (
    checkpoint_path,
    checkpoint_steps,
    read_checkpoint,
    save_checkpoint,
)
from sevenfold.train.recording.records import CHAIN_START, trace_link
from sevenfold.train.schedule import learning_rate

ROOT = "S7_TEST_TRUNK"
WRONG = "0" * 64


@pytest.fixture(scope="module")
def grove(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with texts, a trunk that stopped at step 10, and a branch, sealed."""
    directory = tmp_path_factory.mktemp("grove")
    write_domains(directory / "texts")
    trunk = job_of(trunk_values(), directory / "texts", directory / "tiny-trunk")
    pipeline.make(trunk, until="tokenizer")
    line = pipeline.train_to(trunk, 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ROOT, re.search('root: "([0-9a-f]{64})"', line)[1])
        pipeline.make(branch_of(directory, "branch"))
        yield directory


def branch_of(grove: Path, name: str, **changes: Any) -> Job:
    return job_of(branch_values(), grove / "texts", grove / name, **changes)


def with_from(grove: Path, run: str, **changes: Any) -> Job:
    return branch_of(grove, run, train={"from": branch_values()["train"]["from"] | changes})


def prepared(job: Job) -> Job:
    pipeline.make(job, until="tokenizer")
    return job


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_the_line_is_the_same_from_a_finished_trunk_and_from_a_kept_checkpoint(grove: Path) -> None:
    whole = prepared(job_of(trunk_values(), grove / "texts", grove / "finished"))
    pipeline.make(whole, until="train")
    assert pipeline.train_to(whole, 10).endswith(
        f'step: 10, root: "{branch_values()["train"]["from"]["root"]}"}}'
    )
    assert outputs(whole)["metrics.jsonl"].startswith((grove / "tiny-trunk/train/metrics.jsonl").read_bytes())
    with pytest.raises(StorageError, match="there is no checkpoint of step 7; these are kept: 10, 15, 20"):
        pipeline.train_to(whole, 7)
    with pytest.raises(UsageError, match="--to-step 21"):
        pipeline.train_to(whole, 21)


def test_the_records_and_the_seal_reach_back_to_the_first_step_of_the_trunk(grove: Path) -> None:
    directory = grove / "branch/train"
    own, theirs = (rows(d / "metrics.jsonl") for d in (directory, grove / "tiny-trunk/train"))
    assert [row["step"] for row in own] == list(range(1, 19))
    assert own[:10] == theirs
    assert own[10]["learning_rate"] == 0.01, "no warm-up: it goes on at the trunk's rate"
    assert own[17]["learning_rate"] < 0.001
    assert own[10].get("domains") != theirs[9].get("domains")
    chain = CHAIN_START
    for row in rows(directory / "trace.jsonl"):
        chain = trace_link(chain, row["step"], row["gradient"], row["weights"])
        assert row["chain"] == chain
    sealed = read_artifact(grove / "branch/model.s7l").provenance["identity"]["facts"]["train"]["trunk"]
    assert (sealed["name"], sealed["step"], sealed["root"]) == (
        "tiny-trunk",
        10,
        branch_values()["train"]["from"]["root"],
    )
    assert sealed["recipe"]["name"] == "tiny-trunk"
    shown = lineage(sealed_file(grove / "branch"))["training"]["trunk"]
    assert (shown["name"], shown["step"], shown["root"]) == ("tiny-trunk", 10, sealed["root"])


def test_the_schedule_of_a_branch_is_its_own(grove: Path) -> None:
    spec = Recipe(**branch_values()).train
    assert [learning_rate(spec, step) for step in (10, 17)] != [learning_rate(spec, 11)] * 2
    assert spec.first_step == 10
    assert '"from":' in spec.model_dump_json()
    assert '"from"' not in Recipe(**trunk_values()).train.model_dump_json()


@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_same_root_twice_on_one_thread_and_on_two(grove: Path, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        again = branch_of(grove, f"threads-{threads}")
        pipeline.make(again)
    finally:
        torch.set_num_threads(before)
    assert (again.out / "model.s7l").read_bytes() == (grove / "branch/model.s7l").read_bytes()


@pytest.mark.slow
def test_killed_at_steps_and_in_checkpoints_it_gives_the_same(grove: Path) -> None:
    driver = Path(families.__file__).parent / "kill_driver.py"
    command = [sys.executable, str(driver), "branch", str(grove / "texts"), str(grove / "killed"), "9", "21"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("killed at") == 2, done.stdout
    assert "from step 10" in done.stdout
    assert outputs(branch_of(grove, "killed")) == outputs(branch_of(grove, "branch"))


def test_cut_off_while_it_takes_the_trunks_state(grove: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = prepared(branch_of(grove, "cut"))

    def cut(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trunk_module, "save_checkpoint", cut)
        with pytest.raises(KeyboardInterrupt):
            pipeline.make(job, until="train")
    assert not checkpoint_steps(job.directory("train"))
    pipeline.make(job, until="train")
    assert outputs(job) == outputs(branch_of(grove, "branch"))
    assert 10 in checkpoint_steps(job.directory("train")), "the first steps stay auditable"


def test_another_root_a_missing_trunk_and_a_damaged_one_are_refused(grove: Path, tmp_path: Path) -> None:
    job = prepared(with_from(grove, "wrong", root=WRONG))
    with pytest.raises(
        StorageError,
        match=f"root {WRONG} is missing.*has the root {branch_values()['train']['from']['root']}",
    ):
        pipeline.make(job, until="train")
    job = prepared(with_from(grove, "missing", name="tiny-oak"))
    with pytest.raises(StorageError, match=r"the state of tiny-oak after step 10.*--to-step 10"):
        pipeline.make(job, until="train")
    pipeline.make(replace(job, trunks=(grove / "tiny-trunk",)), until="train")
    assert outputs(job)["metrics.jsonl"] == outputs(branch_of(grove, "branch"))["metrics.jsonl"]
    changed = Path(shutil.copytree(grove / "tiny-trunk", tmp_path / "tiny-trunk"))
    path = changed / "train/metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"step":3', b'"step":4', 1))
    job = replace(prepared(with_from(grove, "damaged", name="tiny-elm")), trunks=(changed,))
    with pytest.raises(StorageError, match="rows before the checkpoint are missing or damaged"):
        pipeline.make(job, until="train")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"model": {"d_ffn": 32}}, "model: |model.*another shape"),
        ({"train": {"batch_sequences": 2}}, "another batch"),
        ({"tokenizer": {"special_tokens": ("<|endoftext|>", "<THINK>")}}, "other token files"),
    ],
)
def test_a_trunk_of_another_shape_batch_or_vocabulary_is_refused(
    grove: Path, changes: dict[str, Any], key: str
) -> None:
    name = "-".join(changes)
    job = prepared(branch_of(grove, f"other-{name}", **changes))
    with pytest.raises(RecipeError, match=key):
        pipeline.make(job, until="train")
    assert not checkpoint_steps(job.directory("train"))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"train": {"tokens": 10 * 4 * 64}}, "pay for 10 steps, and the trunk has 10"),
        ({"model": {"pretrained": "sha256:" + WRONG}}, "model.pretrained is set beside train.from"),
    ],
)
def test_a_recipe_that_cannot_go_on_is_refused_by_rule(
    grove: Path, changes: dict[str, Any], what: str
) -> None:
    with pytest.raises(PolicyError, match=what):
        check_policies(branch_of(grove, "policy", **changes).recipe)


def test_steps_are_audited_and_exported_on_both_sides_of_the_fork(grove: Path, tmp_path: Path) -> None:
    trunk = Recipe(**trunk_values())
    assert audit_steps(grove / "branch", 11, 18, None, Silent())["same"]
    assert audit_steps(grove / "tiny-trunk", 1, 10, trunk, Silent())["same"]
    with pytest.raises(UsageError, match=r"steps 1\.\.10 are those of the trunk tiny-trunk"):
        audit_steps(grove / "branch", 10, 12, None, Silent())
    sides = ((grove / "tiny-trunk", 10, trunk), (grove / "branch", 11, None))
    bundles = [tmp_path / f"{step}.s7step" for _, step, _ in sides]
    for (run, step, given), bundle in zip(sides, bundles, strict=True):
        assert export_step(run, step, bundle, given, Silent())["same"]
    last, first = (check_step(bundle, Silent()) for bundle in bundles)
    assert last["same"]
    assert first["same"]
    assert first["state_before"] == last["claims"]["state_after"], "the branch begins where the trunk ended"


def test_a_forged_state_of_the_trunk_is_found(grove: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(grove / "branch", tmp_path / "branch"))
    path = checkpoint_path(copy / "train", 10)
    checkpoint = read_checkpoint(path)
    name = min(checkpoint.model)
    forged = replace(checkpoint, model=checkpoint.model | {name: checkpoint.model[name] * 1.0001})
    save_checkpoint(path.parent, forged, first=10)
    value = audit_steps(copy, 11, 12, None, Silent())
    assert [difference["field"] for difference in value["differences"]] == ["root"]


def test_the_trunk_of_another_recipe_or_other_tokens_is_found(grove: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(grove / "branch", tmp_path / "branch"))
    path = copy / "train/trunk.json"
    said = json.loads(path.read_bytes())
    said["recipe"]["train"]["learning_rate"] = 0.02
    path.write_bytes(canonical_json(said))
    with pytest.raises(StorageError, match="not those that it was trained with"):
        trunk_module.find_state(copy, 10)


@pytest.mark.slow
def test_everything_is_made_again_from_the_trunks_state(grove: Path, tmp_path: Path) -> None:
    recipe, texts = Recipe(**branch_values()), grove / "texts"
    value = audit_full(grove / "branch", recipe, texts, Silent(), tmp_path / "full")
    assert value["same"], value["differences"]
    alone = tmp_path / "file" / "model.s7l"
    alone.parent.mkdir()
    shutil.copyfile(grove / "branch/model.s7l", alone)
    with pytest.raises(StorageError, match="the state of tiny-trunk after step 10"):
        audit_full(alone, recipe, texts, Silent(), tmp_path / "nowhere")
    again = reproduce(alone, recipe, texts, Silent(), tmp_path / "again", trunk=grove / "tiny-trunk")
    assert again["same"]
    assert again["statement"]


def test_the_verb_stops_at_a_step_and_prints_the_line(grove: Path) -> None:
    recipe = grove / "texts" / "trunk.json"
    recipe.write_bytes(Recipe(**trunk_values()).canonical())

    def train(*words: str) -> Any:
        return CliRunner().invoke(app, ["train", str(recipe), *words])

    done = train("--out", str(grove / "tiny-trunk"), "--to-step", "10")
    assert done.exit_code == 0, done.output
    assert f'from: {{name: tiny-trunk, step: 10, root: "{os.environ[ROOT]}"}}' in done.output
    for words in (("--dry-run", "--to-step", "3"), ("--out", "x", "--to-step", "3", "--force")):
        assert train(*words).exit_code == 2
