"""Disputes: one run is tampered with in one place, and that place is what the dispute names."""

from __future__ import annotations

import ctypes
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import stack_values, write_domains

from sevenfold import pipeline
from sevenfold.audit.dispute import settle
from sevenfold.audit.steps.bundle import read_bundle, write_bundle
from sevenfold.audit.steps.check import check_step
from sevenfold.audit.steps.export import export_step
from sevenfold.core.errors import ArtifactError, UsageError
from sevenfold.core.hashing import Json
from sevenfold.core.process.log import Silent
from sevenfold.model import native
from sevenfold.model.kernels import operators
from sevenfold.recipe.schema import Recipe
from sevenfold.report.audit import audit_lines
from sevenfold.runs.job import Job
from sevenfold.train import gradient_step
from sevenfold.train.checkpoints.checkpoint import (
    checkpoint_path,
    checkpoint_steps,
    read_checkpoint,
    save_checkpoint,
)
from sevenfold.train.run_builder import training_run

pytestmark = pytest.mark.skipif(not operators.is_available(), reason="native/train is not built here")
# The tampered step, counted from 1.
STEP = 13


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory, make_job: Callable[..., Job]) -> Job:
    """A trained run with a checkpoint for every fifth step and four micro-batches in each."""
    train = {"tokens": 20 * 4 * 64, "checkpoint_every": 5, "keep_every": 5, "micro_batch_sequences": 1}
    job = make_job(tmp_path_factory.mktemp("run") / "honest", train=train)
    pipeline.make(job, until="train")
    return job


@dataclass
class Step:
    """Which step is being computed; micro-batches are made once for each."""

    number: int = 0


@contextmanager
def tampering(patch: pytest.MonkeyPatch, how: str) -> Iterator[None]:
    """Within this block, step STEP of every run is computed in another way."""
    original, call, now = gradient_step.micro_batches, native.call, Step()

    def micro_batches(terms: Any, step: int, *rest: Any) -> list[Any]:
        now.number = step + 1
        found = original(terms, step, *rest)
        if now.number == STEP and how == "order":
            return found[::-1]
        if now.number == STEP and how == "batch":
            ids = found[1].ids.clone()
            ids[0, 3] ^= 1
            return [found[0], replace(found[1], ids=ids), *found[2:]]
        return found

    done: list[int] = []

    def tampered(device: Any, name: str, *arguments: Any) -> None:
        call(device, name, *arguments)
        if now.number == STEP and name == how and not done:
            done.append(1)
            word = ctypes.c_uint32.from_address(arguments[2].value)
            word.value ^= 1 << 20

    with patch.context() as patched:
        patched.setattr(gradient_step, "micro_batches", micro_batches)
        patched.setattr(native, "call", tampered)
        yield


def copied(honest: Job, out: Path) -> Job:
    shutil.copytree(honest.out, out)
    return replace(honest, out=out)


@pytest.fixture
def other(honest: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Job]:
    """other(how) -> a run of the same recipe, tampered with in step STEP."""

    def build(how: str) -> Job:
        job = copied(honest, tmp_path / "other")
        train = job.directory("train")
        (train / "manifest.json").unlink()
        for step in checkpoint_steps(train):
            if step > 10:
                checkpoint_path(train, step).unlink()
        with tampering(monkeypatch, how):
            training_run(job, train).train()
        return job

    return build


def exported(
    job: Job, out: Path, patch: pytest.MonkeyPatch, how: str, step: int = STEP, **detail: Any
) -> Path:
    """The bundle of a step as the one who tampers computes it."""
    with tampering(patch, how):
        assert export_step(job.out, step, out, job.recipe, Silent(), **detail)["same"]
    return out


def settled(a: Job | Path, b: Job | Path, job: Job) -> dict[str, Json]:
    paths = [side.out if isinstance(side, Job) else side for side in (a, b)]
    value = settle(paths[0], paths[1], job.recipe, Silent())
    json.dumps(value)
    assert audit_lines(value)
    return value


def test_equal_runs_have_no_dispute(honest: Job, tmp_path: Path) -> None:
    value = settled(honest, copied(honest, tmp_path / "twin"), honest)
    assert (value["same"], value["place"], value["upheld"]) == (True, "nothing", None)


@pytest.mark.parametrize(("kind", "slot"), [("model", "weight"), ("optimizer", "square")])
def test_a_flipped_bit_in_one_checkpoint(kind: str, slot: str, honest: Job, tmp_path: Path) -> None:
    job = copied(honest, tmp_path / "other")
    path = checkpoint_path(job.directory("train"), 10)
    checkpoint = read_checkpoint(path)
    name = "layers.01.ffn.up_proj.weight"
    tensors = {n: t.clone() for n, t in getattr(checkpoint, kind).items()}
    key = name if kind == "model" else f"{name}.exp_avg_sq"
    tensors[key].view(torch.int32).view(-1)[7] ^= 1
    save_checkpoint(path.parent, replace(checkpoint, **{kind: tensors}), keep_every=5)
    value = settled(honest, job, honest)
    assert (value["same"], value["place"], value["step"], value["agreed_step"]) == (False, "operator", 10, 5)
    assert value["upheld"] == "a"
    assert (value["operator"]["name"], value["operator"]["parameter"]) == ("adam", name)
    elements = value["elements"]
    assert (elements["output"], elements["n_different"], elements["agrees"]) == (slot, 1, "here")
    (checked,) = elements["checked"]
    assert checked["index"] == 7
    assert checked["oracle"] == checked["here"] != checked["told"]
    assert settled(job, honest, honest)["upheld"] == "b"


def test_one_result_of_one_operator(
    honest: Job, other: Callable[[str], Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how, job = "s7_gate", other("s7_gate")
    # From the files of both alone: the step, and what is wanted of whom.
    value = settled(honest, job, honest)
    assert (value["place"], value["step"], value["agreed_step"]) == ("step", STEP, 10)
    assert value["upheld"] == "a"
    assert value["wanted"] == [f"b: --export-step {STEP} OUT --operators"]
    # A later step tells of the states on the way.
    late = exported(job, tmp_path / "late.s7step", monkeypatch, how, step=15)
    value = settled(honest, late, honest)
    assert (value["place"], value["step"]) == ("step", STEP)
    assert value["wanted"] == [f"b: --export-step {STEP} OUT --operators"]
    # With the transcript: the operator, and its number.
    bundle = exported(job, tmp_path / "b.s7step", monkeypatch, how, operators=True)
    value = settled(honest, bundle, honest)
    assert (value["place"], value["step"], value["upheld"]) == ("operator", STEP, "a")
    assert value["operator"]["name"] == "gate"
    assert value["operator"]["outputs"]["a"] == value["operator"]["outputs"]["here"]
    assert value["operator"]["outputs"]["b"] != value["operator"]["outputs"]["here"]
    assert value["elements"] is None
    number = value["operator"]["number"]["b"]
    assert value["wanted"] == [f"b: --export-step {STEP} OUT --operator {number}"]
    # With its output: the element, and the oracle's verdict. No corpus: both sides are bundles.
    kept = exported(job, tmp_path / "kept.s7step", monkeypatch, how, keep=number)
    assert export_step(honest.out, STEP, tmp_path / "a.s7step", honest.recipe, Silent(), operators=True)[
        "same"
    ]
    for sides, upheld in (
        ((honest.out, kept), "a"),
        ((tmp_path / "a.s7step", kept), "a"),
        ((kept, honest.out), "b"),
    ):
        value = settled(*sides, honest)
        assert (value["upheld"], value["wanted"]) == (upheld, [])
        assert value["elements"]["agrees"] == "here"
        assert value["elements"]["n_different"] == 1
        assert value["elements"]["checked"][0]["index"] == 0
    assert settled(tmp_path / "a.s7step", honest, honest)["same"]


def test_the_oracle_stands_above_the_kernels_of_this_machine(
    honest: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Here it is the judge's machine that computes wrongly: the honest side is upheld all the same.
    first = tmp_path / "first.s7step"
    export_step(honest.out, STEP, first, honest.recipe, Silent(), operators=True)
    number = next(i for i, row in enumerate(read_bundle(first).transcript or []) if row["operator"] == "gate")
    good = tmp_path / "good.s7step"
    export_step(honest.out, STEP, good, honest.recipe, Silent(), keep=number)
    liar = copied(honest, tmp_path / "liar")
    for step in (15, 20):
        checkpoint_path(liar.directory("train"), step).unlink()
    (liar.directory("train") / "manifest.json").unlink()
    with tampering(monkeypatch, "s7_gate"):
        training_run(liar, liar.directory("train")).train()
    bad = exported(liar, tmp_path / "bad.s7step", monkeypatch, "s7_gate", operators=True)
    call = native.call

    def broken(device: Any, name: str, *arguments: Any) -> None:
        call(device, name, *arguments)
        if name == "s7_gate" and not done:
            done.append(1)
            ctypes.c_uint32.from_address(arguments[2].value).value ^= 1 << 20

    done: list[int] = []
    monkeypatch.setattr(native, "call", broken)
    value = settled(bad, good, honest)
    assert value["operator"]["name"] == "gate"
    assert value["elements"]["agrees"] == "told"
    assert value["upheld"] == "b"
    assert "the kernels here are wrong" in value["reason"]


@pytest.mark.parametrize("how", ["order", "batch"])
def test_other_rows(
    how: str, honest: Job, other: Callable[[str], Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = other(how)
    value = settled(honest, job, honest)
    # Swapped rows give the same loss; the norm of the gradient tells, or the next loss.
    assert (value["place"], value["upheld"]) == ("step", "a")
    assert value["step"] in (STEP, STEP + 1)
    bundle = exported(job, tmp_path / "b.s7step", monkeypatch, how, operators=True)
    value = settled(honest, bundle, honest)
    assert (value["place"], value["step"], value["upheld"]) == ("operator", STEP, "a")
    assert value["operator"]["name"] == "micro_batch"
    swapped = "b computes these rows as micro-batch"
    assert (swapped in value["reason"]) == (how == "order")
    assert value["operator"]["settings"]["number"] == (0 if how == "order" else 1)


def test_another_recipe_and_other_token_files(honest: Job, tmp_path: Path) -> None:
    job = copied(honest, tmp_path / "other")
    train = honest.recipe.train.model_copy(update={"learning_rate": 0.02})
    recipe = honest.recipe.model_copy(update={"train": train})
    from sevenfold.audit.run_dispute import dispute_runs
    from sevenfold.audit.target import Findings

    found = dispute_runs((honest, replace(job, recipe=recipe)), Findings(Silent()))
    assert (found.place, "train.learning_rate" in found.reason) == ("recipe", True)
    path = job.directory("tokenizer") / "train.tokens"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert settled(honest, job, honest)["place"] == "tokens"


def test_a_tensor_that_is_not_what_its_transcript_says(
    honest: Job, other: Callable[[str], Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = other("s7_gate")
    path = exported(job, tmp_path / "b.s7step", monkeypatch, "s7_gate", operators=True)
    number = settled(honest, path, honest)["operator"]["number"]["b"]
    bundle = read_bundle(exported(job, tmp_path / "kept.s7step", monkeypatch, "s7_gate", keep=number))
    kept = {name: tensor + 1 for name, tensor in bundle.kept.items()}
    write_bundle(path, replace(bundle, kept=kept))
    with pytest.raises(ArtifactError, match="not the one whose hash"):
        settle(honest.out, path, honest.recipe, Silent())
    write_bundle(path, replace(bundle, transcript=[{"operator": "gate"}]))
    with pytest.raises(ArtifactError, match="another form"):
        settle(honest.out, path, honest.recipe, Silent())


def test_a_sealed_file_with_its_checkpoints(dense_run: Job, tmp_path: Path) -> None:
    value = settle(dense_run.out / "model.s7l", dense_run.out, None, Silent())
    assert value["same"]
    alone = Path(shutil.copy(dense_run.out / "model.s7l", tmp_path))
    with pytest.raises(UsageError, match="beside no checkpoints"):
        settle(alone, dense_run.out, None, Silent())


def test_a_run_in_parts(tmp_path: Path) -> None:
    write_domains(tmp_path)
    values = stack_values()
    values["train"] |= {"keep_every": 2, "checkpoint_every": 2}
    job = Job(recipe=Recipe(**values), out=tmp_path / "stacks", recipe_dir=tmp_path, progress=Silent())
    pipeline.make(job, until="train")
    other = copied(job, tmp_path / "other")
    directory = other.directory("train") / "experts" / "math"
    checkpoint = read_checkpoint(checkpoint_path(directory, 4))
    model = {name: tensor.clone() for name, tensor in checkpoint.model.items()}
    name = sorted(model)[-1]
    model[name].view(torch.int32).view(-1)[0] ^= 1
    save_checkpoint(directory, replace(checkpoint, model=model), keep_every=2)
    value = settled(job, other, job)
    assert (value["place"], value["part"], value["step"]) == ("operator", "experts/math", 4)
    assert (value["upheld"], value["operator"]["parameter"]) == ("a", name)
    # The steps of all parts are counted one after another: 12 of the trunk, 4 of `code`, then `math`.
    bundle = tmp_path / "step.s7step"
    assert export_step(job.out, 18, bundle, job.recipe, Silent(), operators=True)["same"]
    assert check_step(bundle, Silent())["same"]
    facts = read_bundle(bundle).facts
    assert (facts.part, facts.step, facts.trains, facts.stack) == ("experts/math", 2, "expert", 1)
    assert settled(job, bundle, job)["same"]
    trunk = tmp_path / "trunk.s7step"
    assert export_step(job.out, 3, trunk, job.recipe, Silent())["same"]
    assert check_step(trunk, Silent())["same"]
    with pytest.raises(UsageError, match="of part"):
        settle(bundle, trunk, job.recipe, Silent())
