"""The forecast is of the trainer's own step: its shapes, its kernels, and what is
cut where a step is too long.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from sevenfold.model.kernels import operators
from sevenfold.model.kernels.observe import OperatorCall, observing
from sevenfold.plan.calculator import Cpu
from sevenfold.recipe.loader import load_recipe
from sevenfold.recipe.schema import Recipe
from sevenfold.recipe.shipped import recipe_paths
from sevenfold.train import rehearsal
from sevenfold.train.phases import training_phases
from sevenfold.train.rehearsal import BUDGET, MOST_PARAMETERS, measure_training, sample_of, step_flops

CPU = Cpu(matmul_flops=1e9, bytes_per_second=1e10)


def tiny(values: dict[str, object] | None = None) -> Recipe:
    recipe = load_recipe(recipe_paths()["s7/demo-1m"])
    small = {"d_model": 32, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2, "head_dim": 16, "d_ffn": 48}
    model = recipe.model.model_copy(update=small | {"vocab_size": 300, "context": 64})
    train = recipe.train.model_copy(update={"sequence": 32, "batch_sequences": 4} | (values or {}))
    return recipe.model_copy(update={"model": model, "train": train})


@pytest.mark.parametrize("name", ["s7/demo-1m", "s7/code-8m", "llama/tiny-30m"])
def test_shapes_that_fit_are_rehearsed_whole(name: str) -> None:
    recipe = load_recipe(recipe_paths()[name])
    part = training_phases(recipe)[0]
    sample = sample_of(recipe, part)
    assert sample is not None
    assert sample.model == recipe.model
    assert sample.sequence == min(recipe.train.sequence, 512)
    assert sample.rows * sample.sequence * sample.flops_per_token <= BUDGET
    assert sample.flops_per_token == step_flops(recipe.model, part, sample.sequence)


def test_depth_is_cut_where_one_row_is_too_long_and_the_largest_is_not_rehearsed() -> None:
    recipe = tiny({"batch_sequences": 64})
    part = training_phases(recipe)[0]
    row = step_flops(recipe.model, part, 32) * 32
    whole, cut = sample_of(recipe, part, 3.5 * row), sample_of(recipe, part, 0.9 * row)
    assert whole is not None
    assert (whole.rows, whole.model.n_layers) == (3, 2)
    assert cut is not None
    assert (cut.rows, cut.model.n_layers) == (1, 1)
    assert cut.flops_per_token == step_flops(cut.model, part, 32) < whole.flops_per_token
    assert sample_of(recipe, part, 0.01 * row) is None
    huge = recipe.model_copy(
        update={"model": recipe.model.model_copy(update={"vocab_size": MOST_PARAMETERS})}
    )
    assert sample_of(huge, part, 1e30) is None


def test_speed_is_flops_over_the_time_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arithmetic, with a clock of our own: no test asserts a time."""
    recipe, done = tiny(), []

    def seconds(work: object, clock: object) -> float:
        work()  # type: ignore[operator]  # the real step runs
        assert clock is time.perf_counter
        done.append(work)
        return (0.5, 0.25)[len(done) - 1]

    monkeypatch.setattr(rehearsal, "_seconds", seconds)
    found = measure_training(recipe, CPU)
    part = training_phases(recipe)[0]
    sample = sample_of(recipe, part)
    assert sample is not None
    assert sample.rows == 4
    assert found.training_flops == sample.rows * 32 * step_flops(recipe.model, part, 32) / 0.5
    n = sum(p.numel() for p in rehearsal.Transformer(recipe.model).parameters())
    assert found.update_seconds == 0.25 / n
    assert (found.measured, found.matmul_flops) == (True, CPU.matmul_flops)
    assert len(done) == 2


def test_the_step_that_is_timed_changes_the_weights_of_a_run_of_the_recipe(tmp_path: Path) -> None:
    recipe = tiny({"micro_batch_sequences": 2, "packing": "documents"})
    part = training_phases(recipe)[0]
    sample = sample_of(recipe, part)
    assert sample is not None
    assert sample.rows == 2
    run = rehearsal.rehearsal(recipe, part, sample, tmp_path)
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    run.gradients.run(run.step)
    run.optimizer.step(0.01)
    assert all(not torch.equal(p, before[name]) for name, p in run.model.named_parameters())
    assert list(tmp_path.iterdir()) == []


def test_experts_by_token_are_rehearsed(tmp_path: Path) -> None:
    moe = load_recipe(recipe_paths()["s7/moe-8m"])
    small = tiny()
    model = small.model.model_copy(update={"moe": moe.model.moe})
    recipe = small.model_copy(update={"model": model})
    part = training_phases(recipe)[0]
    sample = sample_of(recipe, part)
    assert sample is not None
    rehearsal.rehearsal(recipe, part, sample, tmp_path).gradients.run(0)


class CountedFlops:
    """Adds the FLOPs of each product and of each attention of a step, by their shapes."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()

    def begin(self, call: OperatorCall) -> None:
        """Count a call."""
        if call.operator == "matrix_product":
            a, b = call.inputs["a"], call.inputs["b"]
            self.of["product"] += 2 * a.shape[0] * a.shape[1] * b.shape[1]
        elif call.operator in ("attend", "attend_slope"):
            n_batch, n_heads, length, width = call.inputs["q"].shape
            pairs = length * (length + 1) // 2
            passes = 1 if call.operator == "attend" else 2
            self.of["attention"] += passes * 4 * n_batch * n_heads * width * pairs

    def end(self, call: OperatorCall) -> None:
        """Take no note of results."""


SHAPES: dict[str, dict[str, Any]] = {
    "dense": {},
    "grouped heads": {"n_heads": 4, "n_kv_heads": 2},
    "untied": {"tied": False},
    "experts by token": {"moe": "s7/moe-8m"},
    "several micro-batches": {"micro": 2},
}


@pytest.mark.skipif(not operators.is_available(), reason="native/train is not built here")
@pytest.mark.parametrize("shape", SHAPES)
def test_a_recorded_step_has_the_flops_of_its_shape(shape: str, tmp_path: Path) -> None:
    """Each operation of a step is in the forecast once, and nothing else is."""
    changes = dict(SHAPES[shape])
    micro, small = changes.pop("micro", None), tiny()
    if "moe" in changes:
        changes["moe"] = load_recipe(recipe_paths()[str(changes["moe"])]).model.moe
    recipe = small.model_copy(update={"model": small.model.model_copy(update=changes)})
    part = training_phases(recipe)[0]
    sample = sample_of(recipe, part)
    assert sample is not None
    run = rehearsal.rehearsal(recipe, part, sample, tmp_path, micro)
    counted = CountedFlops()
    with observing(counted):
        run.gradients.run(0)
    assert counted.of["product"] > counted.of["attention"] > 0
    n_tokens = sample.rows * sample.sequence
    assert counted.of.total() == n_tokens * sample.flops_per_token


@pytest.mark.skipif(not operators.is_available(), reason="native/train is not built here")
def test_a_step_that_recomputes_has_the_products_of_its_layers_once_more(tmp_path: Path) -> None:
    """Canary: what the count sees beyond the forecast is a pass, and a forecast leaves it out."""
    counts = []
    for recomputes in (False, True):
        recipe = tiny({"activation_checkpointing": recomputes})
        part = training_phases(recipe)[0]
        sample = sample_of(recipe, part)
        assert sample is not None
        run = rehearsal.rehearsal(recipe, part, sample, tmp_path)
        counted = CountedFlops()
        with observing(counted):
            run.gradients.run(0)
        counts.append(counted.of.total() - sample.rows * sample.sequence * sample.flops_per_token)
    head = 2.0 * 300 * 32
    assert counts == [0, sample.rows * sample.sequence * (sample.flops_per_token / 3 - head)]
