"""Experiments: locked before their runs, decided by sealed runs with their intervals."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from command_line import refusal, said
from sevenfold.core.errors import ArtifactError, RecipeError, StorageError
from sevenfold.evals.run import sealed
from sevenfold.programme.experiments import experiment_states, load_experiments
from sevenfold.recipe.shipped import EXPERIMENTS, recipes_directory

SHIPPED = recipes_directory() / EXPERIMENTS / "slm.yaml"


def run(folder: Path, arm: str, low: float, value: float, high: float, **changes: object) -> Path:
    score = {"metric": "acc", "value": value, "low": low, "high": high, "n": 100}
    body = {"eval": 1, "name": "probe-needle", "task": {"n_items": 100, "n_in_set": 100}, "scores": [score]}
    path = folder / f"context-curriculum.{arm}.eval.json"
    sealed({**body, **changes}, {}, path)
    return path


def state(folder: Path | None) -> str:
    states = {row.id: row for row in experiment_states(load_experiments("slm"), folder)}
    return states["context-curriculum"].state


def test_every_table_that_ships_is_locked() -> None:
    for path in SHIPPED.parent.glob("*.yaml"):
        assert load_experiments(path.stem).rows
    rows = experiment_states(load_experiments("slm"), None)
    assert len(rows) == 5
    assert {row.state for row in rows} == {"not measured"}


@pytest.mark.parametrize(
    "change", [("margin: 0.02", "margin: 0.01"), ("two hops", "three hops"), ("slm", "x")]
)
def test_a_table_that_changed_is_a_finding(change: tuple[str, str], tmp_path: Path) -> None:
    text = SHIPPED.read_text()
    (tmp_path / "t.yaml").write_text(text.replace(*change))
    with pytest.raises(ArtifactError, match="was changed after it was locked on"):
        load_experiments(str(tmp_path / "t.yaml"))
    assert change[0] in text


def test_what_the_intervals_say(tmp_path: Path) -> None:
    assert state(tmp_path) == "not measured"
    run(tmp_path, "a", 0.50, 0.55, 0.60)
    assert state(tmp_path) == "not measured"
    for low, value, high, expected in (
        (0.62, 0.70, 0.80, "passed"),
        (0.61, 0.70, 0.80, "undecided"),
        (0.40, 0.45, 0.50, "failed"),
        (0.40, 0.45, 0.53, "undecided"),
    ):
        run(tmp_path, "b", low, value, high)
        assert state(tmp_path) == expected


def test_a_lower_figure_is_better_where_the_table_says_so(tmp_path: Path) -> None:
    for arm, value in (("a", 1.5), ("b", 1.2)):
        score = {"metric": "bits_per_byte", "value": value, "low": value - 0.1, "high": value + 0.1, "n": 9}
        body = {"eval": 1, "name": "bpb-heldout", "task": {"n_items": 9, "n_in_set": 9}, "scores": [score]}
        sealed(body, {}, tmp_path / f"tokenizer.{arm}.eval.json")
    row = experiment_states(load_experiments("slm"), tmp_path)[0]
    assert row.state == "passed"
    assert row.gain == pytest.approx(0.3)
    assert row.low == pytest.approx(0.1)


def test_what_is_no_whole_run_is_refused(tmp_path: Path) -> None:
    run(tmp_path, "a", 0.5, 0.55, 0.6)
    for changes in ({"name": "mmlu"}, {"scores": []}, {"task": {"n_items": 3, "n_in_set": 100}}):
        run(tmp_path, "b", 0.6, 0.7, 0.8, **changes)
        with pytest.raises(ArtifactError, match="no whole run"):
            state(tmp_path)
    path = run(tmp_path, "b", 0.6, 0.7, 0.8)
    path.write_text(path.read_text().replace("0.8", "0.9"))
    with pytest.raises(StorageError, match="altered"):
        state(tmp_path)


def test_a_table_says_what_it_measures(tmp_path: Path) -> None:
    table = yaml.safe_load(SHIPPED.read_text())
    for change in ({"card": ""}, {"card": "nothing"}, {"metric": ""}, {"needs": "x"}, {"margin": -1.0}):
        rows = [table["rows"][0] | change]
        (tmp_path / "t.yaml").write_text(yaml.safe_dump({**table, "rows": rows}))
        with pytest.raises(RecipeError):
            load_experiments(str(tmp_path / "t.yaml"))


@pytest.mark.subprocess
def test_the_verb(tmp_path: Path) -> None:
    value = said("experiments")
    assert value["locked"]["date"] == "2026-11-30"
    assert value["rows"][0]["id"] == "tokenizer"
    (tmp_path / "t.yaml").write_text(SHIPPED.read_text().replace("margin: 0.1", "margin: 0.0"))
    assert "after it was locked" in refusal(3, "experiments", "--table", tmp_path / "t.yaml")
