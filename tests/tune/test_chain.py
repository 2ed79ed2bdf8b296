"""A tuning in phases: each with its own files, records and root; the seal holds the chain."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from chain_jobs import chained, pairs
from typer.testing import CliRunner

from sevenfold import pipeline
from sevenfold.artifact import read_artifact
from sevenfold.audit.replay import audit_steps
from sevenfold.audit.steps.check import check_step
from sevenfold.audit.steps.export import export_step
from sevenfold.cli import app
from sevenfold.core.errors import PolicyError, StorageError, TrainingError, UsageError
from sevenfold.core.process.log import Silent
from sevenfold.recipe.policy import check_policies
from sevenfold.recipe.schema import Recipe
from sevenfold.release.lineage import lineage
from sevenfold.release.target import sealed_file
from sevenfold.report.lineage import links
from sevenfold.runs.job import Job
from sevenfold.train.tuning.preferences import Pair


@pytest.fixture(scope="module")
def chain(parent: Job, tmp_path_factory: pytest.TempPathFactory) -> Job:
    job = chained(parent, tmp_path_factory.mktemp("chain") / "run")
    pipeline.make(job)
    return job


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_the_seal_holds_the_chain(chain: Job, parent: Job) -> None:
    said = read_artifact(chain.out / "model.s7l").provenance["identity"]["facts"]["train"]["tune"]
    first, second = said["phases"]
    assert [row["objective"] for row in said["phases"]] == ["answers", "preferences"]
    assert first["parent"] == parent.manifest("seal").facts["root"]
    assert (
        second["parent"]
        == first["root"]
        == json.loads((chain.out / "train/answers/manifest.json").read_bytes())["root"]
    )
    assert second["left_out"] == {"too_long": 7}
    assert second["counts"]["pairs"] == 41
    assert second["counts"]["heldout_pairs"] == second["heldout_pairs"]["n_pairs"] > 4
    assert sum(count for name, count in second["counts"].items() if name.startswith("kind_")) == 41
    text = "\n".join(dict(links(lineage(sealed_file(chain.out))))["training"])
    assert f"phase choices, preferences, root {second['root']}" in text
    assert [row["source"] for row in lineage(sealed_file(chain.out))["sources"]][-2:] == [
        "pairs.jsonl",
        "choices.jsonl",
    ]


def test_the_margins_of_pairs_are_recorded_and_grow(chain: Job) -> None:
    found = rows(chain.out / "train/choices/metrics.jsonl")
    spec = chain.recipe.tune[1].preferences
    assert all(abs(row[-1]) < 1e-5 for row in found[0]["pairs"]), "the first step is the reference"
    assert found[-1]["margin"] > found[0]["margin"] + 0.01
    assert found[-1]["loss"] < found[0]["loss"]
    for row in found:
        for _, *tokens, chosen, rejected, before_chosen, before_rejected, margin in row["pairs"]:
            nats = (chosen, rejected, before_chosen, before_rejected)
            assert Pair(row=0, segments=(1, 2), tokens=tuple(tokens), nats=nats).margin(spec) == margin
    # The joined records tell of both phases.
    joined = rows(chain.out / "train/metrics.jsonl")
    assert [row["part"] for row in joined] == ["answers"] * 6 + ["choices"] * 8


@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_same_root_phase_by_phase_and_on_other_threads(
    chain: Job, parent: Job, tmp_path: Path, threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        again = chained(parent, tmp_path / "again")
        pipeline.make(again, until="tokenizer")
        with pytest.raises(StorageError, match="the phase before choices is not trained"):
            pipeline.run_phase(again, "choices", None)
        pipeline.run_phase(again, "answers", None)
        pipeline.make(again)
    finally:
        torch.set_num_threads(before)
    assert (again.out / "model.s7l").read_bytes() == (chain.out / "model.s7l").read_bytes()


def test_steps_of_both_phases_are_audited_and_exported(chain: Job, parent: Job, tmp_path: Path) -> None:
    given = parent.out / "model.s7l"
    for first, last in ((5, 8), (12, 14)):
        found = audit_steps(chain.out, first, last, None, Silent(), trunk=given)
        assert found["same"], found["differences"]
    beside = tmp_path / "place" / "run"
    shutil.copytree(chain.out, beside)
    shutil.copyfile(given, tmp_path / "place" / "tiny-parent.s7l")
    for step in (3, 9):
        out = tmp_path / f"{step}.s7step"
        assert export_step(beside, step, out, None, Silent(), operators=True)["same"]
        assert check_step(out, Silent())["same"]
    data = bytearray((beside / "train/choices/metrics.jsonl").read_bytes())
    place = data.index(b'"margin":') + 14
    data[place] = ord("1") if data[place] != ord("1") else ord("2")
    (beside / "train/choices/metrics.jsonl").write_bytes(data)
    assert not audit_steps(beside, 7, 8, None, Silent())["same"]


def test_the_gate_asks_for_held_out_pairs(parent: Job, tmp_path: Path) -> None:
    job = chained(parent, tmp_path / "gate", min_win_increase=1.0)
    with pytest.raises(TrainingError, match=r"of \d+ held-out pairs, with the parent of .*95 %"):
        pipeline.make(job)
    assert not (job.out / "train/choices/manifest.json").exists()
    none = chained(parent, tmp_path / "none", pairs(1), holdout=1000)
    with pytest.raises(StorageError, match=r"nothing can be measured|no conversation is left"):
        pipeline.make(none)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"name": "answers"}, "two phases have one name"),
        ({"tokens": 640}, "the phases' tokens sum to"),
        ({"domains": ("code",), "files": ()}, "choices: pairs stand in files"),
        ({"pretraining": 1.0}, "choices: 5 of 5 rows are pretraining"),
    ],
)
def test_phases_that_do_not_fit_are_refused(chain: Job, change: dict[str, Any], what: str) -> None:
    values = chain.recipe.model_dump(by_alias=True)
    values["tune"] = (values["tune"][0], values["tune"][1] | change)
    with pytest.raises(PolicyError, match=what):
        check_policies(Recipe(**values))


def test_a_run_in_phases_has_no_step_to_stop_at(chain: Job, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a run of one phase"):
        pipeline.train_to(replace(chain, out=tmp_path), 3)


def test_the_verb_shows_pairs(chain: Job, parent: Job, tmp_path: Path) -> None:
    job = chained(parent, tmp_path / "shown")
    recipe = job.recipe_dir / "recipe.json"
    recipe.write_bytes(job.recipe.canonical())
    words = ["tune", str(recipe), "--out", str(job.out), "--trunk", str(parent.out / "model.s7l")]
    done = CliRunner().invoke(app, [*words, "--show-batch", "7", "--json"])
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert [row["objective"] for row in shown] == ["preferences"] * 5
    texts = [run["text"] for row in shown for run in row["runs"] if run["loss"]]
    assert any(text.startswith("no ") for text in texts)
    done = CliRunner().invoke(app, [*words, "--show-batch", "15"])
    assert "steps 1 to 14" in done.output
