"""Runs beside each other: a list, an overlay, and a forecast that refuses what cannot fit and
names the setting that would.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sevenfold.cli import app
from sevenfold.core.errors import RecipeError, StorageError, UsageError
from sevenfold.plan.calculator import Cpu
from sevenfold.plan.cost import phases_of
from sevenfold.plan.forecast import forecast, needed
from sevenfold.recipe.loader import load_recipe
from sevenfold.recipe.shipped import recipe_paths
from sevenfold.report.runs import compare, describe, find_runs, write_overlay
from sevenfold.runs.job import Job

CPU = Cpu(matmul_flops=1e11, bytes_per_second=1e10)


def copy_run(source: Path, target: Path, factor: float) -> Path:
    """A run whose losses are scaled, with another recipe."""
    shutil.copytree(source, target)
    path = target / "train" / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row | {"loss": row["loss"] * factor}) + "\n" for row in rows))
    recipe = json.loads((target / "recipe.json").read_text())
    recipe["train"]["learning_rate"] = 0.5
    (target / "recipe.json").write_text(json.dumps(recipe))
    return target


def test_runs_are_found_and_described(dense_run: Job, tmp_path: Path) -> None:
    shutil.copytree(dense_run.out, tmp_path / "a" / "one")
    half = tmp_path / "two"
    shutil.copytree(dense_run.out, half)
    for stage in ("train", "quantize", "seal"):
        (half / stage / "manifest.json").unlink()
    metrics = half / "train" / "metrics.jsonl"
    metrics.write_bytes(b"".join(metrics.read_bytes().splitlines(keepends=True)[:7]) + b'{"step": 8, "lo')
    assert find_runs(tmp_path) == [tmp_path / "a" / "one", half]
    whole, part = describe(tmp_path / "a" / "one"), describe(half)
    assert whole["stages"][-1] == "seal"
    assert (whole["steps"], part["steps"]) == (30, 7)
    assert whole["root"]
    assert part["root"] is None
    assert part["loss"] > whole["loss"]
    done = CliRunner().invoke(app, ["runs", str(tmp_path), "--json"])
    assert [row["run"] for row in json.loads(done.stdout)] == [str(tmp_path / "a" / "one"), str(half)]
    with pytest.raises(StorageError, match="directory"):
        find_runs(tmp_path / "none")


def test_two_runs_are_overlaid(dense_run: Job, tmp_path: Path) -> None:
    other = copy_run(dense_run.out, tmp_path / "other", 2.0)
    value = compare(dense_run.out, other)
    assert not value["same"]
    assert compare(dense_run.out, dense_run.out)["same"]
    assert [row["key"] for row in value["recipe"]] == ["train.learning_rate"]
    assert value["losses"][-1]["tokens"] == 30 * 256
    for row in value["losses"]:
        assert row["b"] == pytest.approx(2 * row["a"])
        assert row["difference"] == pytest.approx(row["a"])
    write_overlay(tmp_path / "x.png", dense_run.out, other)
    first = (tmp_path / "x.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    write_overlay(tmp_path / "x.png", dense_run.out, other)
    assert (tmp_path / "x.png").read_bytes() == first
    done = CliRunner().invoke(app, ["compare", str(dense_run.out), str(other)])
    assert done.exit_code == 0
    assert "train.learning_rate" in done.stdout
    assert "the metrics differ" in done.stdout
    shutil.rmtree(other / "train")
    with pytest.raises(UsageError, match="no training metrics"):
        compare(dense_run.out, other)


def test_a_forecast_grows_with_the_rows_and_names_what_would_fit() -> None:
    recipe = load_recipe(recipe_paths()["llama/tiny-30m"])
    value = forecast(recipe, 1 << 50, CPU)
    (row,) = value["phases"]
    assert row["steps"] == recipe.train.tokens // (64 * 4096)
    assert (
        row["memory"]
        == sum(
            row["memory_parts"][k] for k in ("weights", "gradients", "optimizer", "base", "between_blocks")
        )
        + (row["memory_parts"]["activations_checkpointed"])
    )
    with pytest.raises(RecipeError, match=r"it fits with train\.micro_batch_sequences: (\d+)") as caught:
        forecast(recipe, 6 << 30, CPU)
    micro = int(caught.value.remedy.rsplit(" ", 1)[1])
    fits = recipe.model_copy(
        update={"train": recipe.train.model_copy(update={"micro_batch_sequences": micro})}
    )
    assert forecast(fits, 6 << 30, CPU)["phases"][0]["memory"] <= 6 << 30
    more = fits.train.model_copy(update={"micro_batch_sequences": 2 * micro})
    assert forecast(recipe, 1 << 50, CPU)["phases"][0]["memory"] > 6 << 30
    (phase,) = phases_of(recipe)
    assert needed(recipe, more, phase) > 6 << 30
    with pytest.raises(RecipeError, match="no setting of the batch makes it fit"):
        forecast(recipe, 800 << 20, CPU)


def test_large_blocks_leave_room_between_them() -> None:
    """A quarter of the activations of code-8m, whose tensors have 42 MB; nothing with 8 rows."""
    parts = {
        name: forecast(load_recipe(recipe_paths()[name]), 1 << 50, CPU)["phases"][0]["memory_parts"]
        for name in ("s7/code-8m", "s7/base-8m")
    }
    assert parts["s7/code-8m"]["between_blocks"] == parts["s7/code-8m"]["activations"] // 4
    assert parts["s7/base-8m"]["between_blocks"] == 0


def test_recomputation_is_named_where_the_batch_alone_does_not_help() -> None:
    recipe = load_recipe(recipe_paths()["s7/code-300m"])
    with pytest.raises(
        RecipeError, match=r"micro_batch_sequences: \d+ and train\.activation_checkpointing: true"
    ):
        forecast(recipe, 7 << 30, CPU)


def test_a_dry_run_trains_nothing(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["train", "s7/demo-1m", "--out", str(tmp_path / "run"), "--dry-run", "--json"]
    )
    value = json.loads(done.stdout)
    assert value["phases"][0]["steps"] == 1000
    assert value["hours"] > 0
    assert not (tmp_path / "run").exists()
    assert CliRunner().invoke(app, ["train", "s7/demo-1m"]).exit_code == 2
