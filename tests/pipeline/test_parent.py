"""Runs that begin with a sealed model (`train.from` without a step): its exact floats, its lineage in
the seal, the same root however it came about, and a refusal by name of any other file.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from typer.testing import CliRunner

from sevenfold import pipeline
from sevenfold.artifact import read_artifact
from sevenfold.audit.full import audit_full
from sevenfold.audit.replay import audit_steps
from sevenfold.audit.steps.check import check_step
from sevenfold.audit.steps.export import export_step
from sevenfold.cli import app
from sevenfold.core.errors import PolicyError, RecipeError, StorageError
from sevenfold.core.process.log import Silent
from sevenfold.export.run import Request, export
from sevenfold.recipe.policy import check_policies
from sevenfold.release.lineage import lineage, recipe_from
from sevenfold.release.target import sealed_file
from sevenfold.report.lineage import links
from sevenfold.runs.job import Job
from sevenfold.train.run_builder import training_run

OUTPUTS = ("model.safetensors", "metrics.jsonl", "trace.jsonl", "trunk.json")


@pytest.fixture(scope="module", params=["dense", pytest.param("moe", marks=pytest.mark.slow)])
def family(
    request: pytest.FixtureRequest, make_job: Callable[..., Job], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Job, Job]:
    """A sealed model, and a run that began with it on other data."""
    place = tmp_path_factory.mktemp(f"parent-{request.param}")
    parent = make_job(place / "tiny-parent", request.param)
    pipeline.make(parent)
    child = child_of(parent, "child")
    pipeline.make(child)
    return parent, child


def child_of(parent: Job, name: str, **changes: Any) -> Job:
    root = parent.manifest("seal").facts["root"]
    own = {"tokens": 12 * 4 * 64, "learning_rate": 0.002, "checkpoint_every": 5}
    values = parent.recipe.model_dump(by_alias=True) | {"name": "tiny-child"}
    values["train"] |= own | {"from": {"name": "tiny-parent", "root": root}} | changes.pop("train", {})
    values["corpus"] |= {"holdout": 3}
    for section, change in changes.items():
        values[section] = values[section] | change
    return replace(parent, recipe=type(parent.recipe)(**values), out=parent.out.parent / name)


def outputs(job: Job) -> dict[str, bytes]:
    return {name: (job.out / "train" / name).read_bytes() for name in OUTPUTS}


def test_the_first_weights_are_those_that_an_export_to_safetensors_gives(
    family: tuple[Job, Job], tmp_path: Path
) -> None:
    parent, child = family
    run = training_run(child, tmp_path / "run")
    run.take(None)
    first = {name: tensor.numpy() for name, tensor in run.weights().items()}
    taken = load_file(child.out / "parent/model.safetensors")
    assert first.keys() == taken.keys()
    assert all(np.array_equal(first[name], taken[name]) for name in taken)
    assert not any(tensor.any() for tensor in run.moments().values()), "Adam begins anew"
    assert (run.step, run.chain) == (0, "0" * 64)
    if parent.recipe.model.moe is None:
        file = tmp_path / "exported.safetensors"
        export(parent.out / "model.s7l", file, Request(target="safetensors", proven=False), Silent())
        exported = load_file(file)
        assert all(np.array_equal(exported[name], taken[name]) for name in taken)


def test_vocabulary_and_lineage_are_the_parents_and_are_sealed(family: tuple[Job, Job]) -> None:
    parent, child = family
    assert (child.out / "tokenizer/tokenizer.json").read_bytes() == read_artifact(
        parent.out / "model.s7l"
    ).dictionary
    sealed = read_artifact(child.out / "model.s7l").provenance["identity"]["facts"]["train"]["trunk"]
    above = sealed_file(parent.out)
    assert (sealed["name"], sealed["step"], sealed["root"]) == ("tiny-parent", 0, above.root)
    shown = lineage(sealed_file(child.out))
    (row,) = shown["training"]["parents"]
    assert row["root"] == above.root
    assert row["recipe_digest"] == parent.recipe.digest
    assert row["dataset_root"] == parent.manifest("corpus").root
    assert row["licences"] == ["PSF-2.0"]
    text = "\n".join(dict(links(shown))["training"])
    assert f"begins with the weights of tiny-parent, root {above.root}" in text
    assert lineage(above)["training"]["parents"] == []


def test_what_a_recipe_has_to_say_is_printed(family: tuple[Job, Job]) -> None:
    parent, child = family
    done = CliRunner().invoke(app, ["lineage", str(parent.out), "--recipe"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    assert said == recipe_from(sealed_file(parent.out))
    ours = child.recipe.resolved()
    assert (said["model"], said["tokenizer"]) == (ours["model"], ours["tokenizer"])
    assert said["train"]["from"] == ours["train"]["from"] | {"name": parent.recipe.name}


@pytest.mark.slow
def test_a_grandchild_names_both(family: tuple[Job, Job]) -> None:
    _, child = family
    grandchild = child_of(child, "grandchild")
    values = grandchild.recipe.model_dump(by_alias=True)
    values["train"]["from"] = {"name": "child", "root": child.manifest("seal").facts["root"]}
    grandchild = replace(grandchild, recipe=type(child.recipe)(**values))
    pipeline.make(grandchild)
    names = [row["name"] for row in lineage(sealed_file(grandchild.out))["training"]["parents"]]
    assert names == ["child", "tiny-parent"]


def test_the_recipe_without_a_step_has_no_step_and_older_recipes_no_new_key(family: tuple[Job, Job]) -> None:
    parent, child = family
    assert child.recipe.resolved()["train"]["from"].keys() == {"name", "root"}
    assert "from" not in parent.recipe.resolved()["train"]
    assert child.recipe.train.trunk is None
    assert child.recipe.train.first_step == 0


@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_same_root_on_one_thread_and_on_two_and_resumed(family: tuple[Job, Job], threads: int) -> None:
    _, child = family
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    again = replace(child, out=child.out.parent / f"again-{threads}")
    try:
        pipeline.make(again, until="tokenizer")
        pipeline.train_to(again, 7)
        pipeline.make(again)
    finally:
        torch.set_num_threads(before)
    assert outputs(again) == outputs(child)
    assert (again.out / "model.s7l").read_bytes() == (child.out / "model.s7l").read_bytes()


@pytest.fixture
def elsewhere(family: tuple[Job, Job], tmp_path: Path) -> Callable[[bytes], Job]:
    """elsewhere(bytes) -> the child with those bytes as its parent, beside an empty directory."""

    def place(data: bytes) -> Job:
        path = tmp_path / "published.s7l"
        path.write_bytes(data)
        return replace(family[1], out=tmp_path / "apart" / "run", trunks=(path,))

    return place


def test_one_flipped_byte_of_the_parent_is_refused_wherever_it_is(
    family: tuple[Job, Job], elsewhere: Callable[[bytes], Job]
) -> None:
    whole = (family[0].out / "model.s7l").read_bytes()
    pipeline.make(elsewhere(whole), until="corpus")
    for place in (0, 9, len(whole) // 5, len(whole) // 2, len(whole) - 40, len(whole) - 1):
        changed = bytearray(whole)
        changed[place] ^= 1
        with pytest.raises(StorageError, match=r"the sealed model tiny-parent with the root [0-9a-f]{64} is"):
            pipeline.make(elsewhere(bytes(changed)), until="corpus")
    with pytest.raises(StorageError, match="its root is"):
        pipeline.make(elsewhere((family[1].out / "model.s7l").read_bytes()), until="corpus")


def test_a_missing_parent_is_refused_before_the_corpus_is_made(
    family: tuple[Job, Job], tmp_path: Path
) -> None:
    job = replace(family[1], out=tmp_path / "run")
    with pytest.raises(StorageError, match=r"is not there.*s7 make RECIPE --trunk FILE"):
        pipeline.make(job)
    assert not (job.out / "corpus").exists()


def test_a_changed_copy_in_the_run_is_refused_by_the_stage_and_found_by_the_audit(
    family: tuple[Job, Job], tmp_path: Path
) -> None:
    parent, child = family
    copy = tmp_path / "child"
    shutil.copytree(child.out, copy)
    given = parent.out / "model.s7l"
    assert audit_steps(copy, 1, 12, None, Silent(), trunk=given)["same"]
    path = copy / "parent/model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(StorageError, match="its bytes are not those of the sealed model"):
        training_run(replace(child, out=copy), tmp_path / "scratch")
    value = audit_steps(copy, 1, 12, None, Silent(), trunk=given)
    assert [d["where"] for d in value["differences"]] == ["parent/model.safetensors"]
    with pytest.raises(StorageError, match="the sealed model tiny-parent"):
        audit_steps(copy, 1, 12, None, Silent())


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"model": {"d_ffn": 64}}, "tiny-parent has model.d_ffn 48, this recipe 64"),
        ({"model": {"context": 128}}, "has model.context 64, this recipe 128"),
        (
            {"tokenizer": {"special_tokens": ("<|endoftext|>", "<THINK>")}},
            "has tokenizer.special_tokens .*<THINK>",
        ),
    ],
)
def test_another_shape_or_vocabulary_is_refused_by_name(
    family: tuple[Job, Job], changes: dict[str, Any], what: str
) -> None:
    job = child_of(family[0], "other", **changes)
    with pytest.raises(RecipeError, match=what):
        pipeline.make(job)
    assert not (job.out / "corpus").exists()


def test_what_cannot_begin_with_a_sealed_model_is_refused_by_rule(family: tuple[Job, Job]) -> None:
    job = child_of(family[0], "imported", model={"pretrained": "sha256:" + "0" * 64})
    with pytest.raises(PolicyError, match=r"model\.pretrained is set beside train.from"):
        check_policies(job.recipe)


def test_steps_are_audited_from_the_first_one(family: tuple[Job, Job], tmp_path: Path) -> None:
    _, child = family
    for first, last in ((1, 3), (6, 12)):
        value = audit_steps(child.out, first, last, None, Silent())
        assert value["same"], value["differences"]
    assert export_step(child.out, 1, tmp_path / "first.s7step", None, Silent())["same"]
    assert check_step(tmp_path / "first.s7step", Silent())["same"]


@pytest.mark.slow
def test_the_whole_is_made_again_from_the_file(family: tuple[Job, Job], tmp_path: Path) -> None:
    _, child = family
    whole = audit_full(child.out, child.recipe, child.recipe_dir, Silent(), tmp_path / "work")
    assert whole["same"], whole["differences"]


def test_the_verbs_take_the_file_by_its_option(family: tuple[Job, Job], tmp_path: Path) -> None:
    parent, child = family
    recipe = child.recipe_dir / f"{child.recipe.name}-{child.recipe.model.moe is None}.json"
    recipe.write_text(json.dumps(child.recipe.resolved()))
    words = ["make", str(recipe), "--out", str(tmp_path / "run"), "--trunk", str(parent.out / "model.s7l")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert outputs(replace(child, out=tmp_path / "run")) == outputs(child)
    done = CliRunner().invoke(app, [*words[:-2], "--until", "train", "--force", "train"])
    assert done.exit_code != 0
    assert "is not there" in done.output
