"""A tuning is a training like any other: the same root twice, on one thread and two, killed and
resumed; audited; its samples bound; its form in the seal, and in the server.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tuning_jobs import lines, tuned
from typer.testing import CliRunner

from sevenfold import pipeline
from sevenfold.artifact import read_artifact
from sevenfold.audit.full import audit_full
from sevenfold.audit.replay import audit_steps
from sevenfold.audit.steps.check import check_step
from sevenfold.audit.steps.export import export_step
from sevenfold.cli import app
from sevenfold.core.errors import PolicyError, StorageError, TrainingError, UsageError
from sevenfold.core.process.log import Silent
from sevenfold.recipe.policy import check_policies
from sevenfold.recipe.schema import Recipe
from sevenfold.release.documents import write_release_documents
from sevenfold.release.lineage import lineage
from sevenfold.release.target import sealed_file
from sevenfold.report.lineage import links
from sevenfold.runs.job import Job
from sevenfold.serve.limits import ServerLimits
from sevenfold.serve.registry import Registry
from sevenfold.tokenizer.chat.template import INSTRUCTION
from sevenfold.train.run_builder import training_run


def rows(run: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.out / "train/metrics.jsonl").read_bytes().splitlines()]


def test_the_answers_are_learnt_and_everything_is_in_the_seal(run: Job, parent: Job) -> None:
    found = rows(run)
    assert found[-1]["objectives"]["answers"] < found[0]["objectives"]["answers"] - 0.1
    assert (
        abs(
            found[0]["loss"]
            - sum(w * found[0]["objectives"][n] for n, w in (("next", 0.2), ("answers", 0.8)))
        )
        < 1e-9
    )
    facts = read_artifact(run.out / "model.s7l").provenance["identity"]["facts"]
    said = facts["train"]["tune"]
    assert said["template"] == INSTRUCTION.as_json()
    assert (said["sources"][0]["licence"], said["sources"][0]["n_conversations"]) == ("CC0-1.0", 40)
    assert said["counts"]["samples"] == 50
    assert (
        lineage(sealed_file(run.out))["training"]["parents"][0]["root"]
        == parent.manifest("seal").facts["root"]
    )


def test_a_model_that_forgets_is_refused(run: Job, parent: Job, tmp_path: Path) -> None:
    facts = run.manifest("train").facts
    assert facts["heldout_bpb_parent"] * 1.01 < facts["heldout_bpb"] <= facts["heldout_bpb_parent"] * 1.2
    job = tuned(parent, tmp_path / "forgets", max_bpb_increase=0.01)
    with pytest.raises(TrainingError, match=r"more than with the parent; the recipe allows 1\.00%"):
        pipeline.make(job)
    assert not (job.out / "train/manifest.json").exists()


def test_lineage_and_notice_name_the_conversations_and_the_parent(
    run: Job, parent: Job, tmp_path: Path
) -> None:
    paths = write_release_documents(sealed_file(run.out), tmp_path)
    notice = next(path for path in paths if path.name.endswith("notice.txt")).read_text()
    assert "Source: pairs.jsonl" in notice
    assert "SPDX-License-Identifier: CC0-1.0" in notice
    assert f"Begins with the weights of: tiny-parent, root {parent.manifest('seal').facts['root']}" in notice
    text = "\n".join(dict(links(lineage(sealed_file(run.out))))["training"])
    assert "tuned on 50 answers" in text


@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_same_root_twice_on_one_thread_and_on_two(
    run: Job, parent: Job, tmp_path: Path, threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        again = tuned(parent, tmp_path / "again")
        pipeline.make(again, until="tokenizer")
        pipeline.train_to(again, 7)
        pipeline.make(again)
    finally:
        torch.set_num_threads(before)
    assert (again.out / "model.s7l").read_bytes() == (run.out / "model.s7l").read_bytes()


@pytest.mark.slow
def test_killed_in_the_middle_it_gives_the_same(run: Job, parent: Job, tmp_path: Path) -> None:
    job = tuned(parent, tmp_path / "killed")
    recipe = job.recipe_dir / "recipe.json"
    recipe.write_bytes(job.recipe.canonical())
    command = [sys.executable, "-m", "sevenfold", "make", str(recipe), "--out", str(job.out)]
    command += ["--trunk", str(parent.out / "model.s7l")]
    metrics, killed = job.out / "train/metrics.jsonl", 0
    for after in (1, 6):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            if len(list((job.out / "train").glob("checkpoint-*"))) * 5 >= after or (
                metrics.is_file() and metrics.read_bytes().count(b"\n") >= after
            ):
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
                break
            time.sleep(0.002)
        process.wait()
    assert killed
    subprocess.run(command, check=True, capture_output=True)
    assert (job.out / "model.s7l").read_bytes() == (run.out / "model.s7l").read_bytes()


def test_steps_are_audited_and_exported(run: Job, parent: Job, tmp_path: Path) -> None:
    given = parent.out / "model.s7l"
    assert audit_steps(run.out, 1, 3, None, Silent(), trunk=given)["same"]
    beside = tmp_path / "place" / "run"
    shutil.copytree(run.out, beside)
    shutil.copyfile(given, tmp_path / "place" / "tiny-parent.s7l")
    assert audit_steps(beside, 9, 12, None, Silent())["same"]
    assert export_step(beside, 6, tmp_path / "x.s7step", None, Silent())["same"]
    assert check_step(tmp_path / "x.s7step", Silent())["same"]


@pytest.mark.slow
def test_the_whole_is_made_again(run: Job, parent: Job, tmp_path: Path) -> None:
    given = parent.out / "model.s7l"
    value = audit_full(run.out, run.recipe, run.recipe_dir, Silent(), tmp_path / "work", trunk=given)
    assert value["same"], value["differences"]
    with pytest.raises(UsageError, match=r"tunes on 'pairs\.jsonl'|reads 'code'"):
        audit_full(run.out, None, None, Silent(), tmp_path / "none", trunk=given)


def test_a_changed_sample_is_refused_and_found(run: Job, parent: Job, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run.out, tmp_path / "copy"))
    path = copy / "tune/tune.tokens"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(StorageError, match="its bytes are not those that were cut"):
        training_run(replace(run, out=copy), tmp_path / "scratch")
    value = audit_steps(copy, 1, 3, None, Silent(), trunk=parent.out / "model.s7l")
    assert [row["where"] for row in value["differences"]] == ["tune/tune.tokens"]


def test_other_data_is_another_run(run: Job, parent: Job, tmp_path: Path) -> None:
    other = tuned(parent, tmp_path / "other", lines(39))
    assert other.recipe.digest != run.recipe.digest
    pipeline.make(other, until="train")
    assert other.manifest("train").root != run.manifest("train").root


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"train": {"from": None}}, "train.from names no sealed model"),
        ({"train": {"packing": "stream"}}, "train.packing is not documents"),
        ({"train": {"objectives": {"fim": 0.5}}}, "objectives"),
        ({"tune": {"files": ()}}, "it names no domain and no file"),
        ({"tune": {"domains": ("poems",)}}, "no source has the domain poems"),
        ({"tune": {"pretraining": 0.0}}, "0 of 5 rows are pretraining"),
        ({"tune": {"pretraining": 1.0}}, "5 of 5 rows are pretraining"),
    ],
)
def test_a_recipe_that_cannot_tune_is_refused_by_rule(run: Job, changes: dict[str, Any], what: str) -> None:
    values = run.recipe.model_dump(by_alias=True)
    for section, change in changes.items():
        values[section] = values[section] | change
    with pytest.raises(PolicyError, match=what):
        check_policies(Recipe(**values))


def test_a_recipe_without_tuning_has_no_new_key(parent: Job) -> None:
    assert "tune" not in parent.recipe.resolved()


def test_the_server_uses_the_form_in_the_seal(run: Job) -> None:
    registry = Registry(ServerLimits())
    try:
        assert registry.load(run.out / "model.s7l").prompts.template is INSTRUCTION
    finally:
        registry.close()


def test_the_verb_shows_what_carries_loss(run: Job, parent: Job, tmp_path: Path) -> None:
    job = tuned(parent, tmp_path / "shown")
    recipe = job.recipe_dir / "recipe.json"
    recipe.write_bytes(job.recipe.canonical())
    words = ["tune", str(recipe), "--out", str(job.out), "--trunk", str(parent.out / "model.s7l")]
    done = CliRunner().invoke(app, [*words, "--show-batch", "1"])
    assert done.exit_code == 0, done.output
    assert "### Response:\n{+" in done.output
    assert "<|endoftext|>+}" in done.output
    done = CliRunner().invoke(app, [*words, "--show-batch", "1", "--json"])
    shown = json.loads(done.stdout)
    assert [row["objective"] for row in shown] == ["next", *["answers"] * 4]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (job.out / "train" / name).read_bytes() == (run.out / "train" / name).read_bytes()
    for more, what in ((["--show-batch", "13"], "steps 1 to 12"), (["--json"], "goes with --show-batch")):
        done = CliRunner().invoke(app, [*words, *more])
        assert done.exit_code == 2
        assert what in done.output
