"""The root that a recipe promises: written, kept, broken, and replaced where no package can be had."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from sevenfold import pipeline
from sevenfold.cli import app
from sevenfold.core.errors import RecipeError, StorageError
from sevenfold.pipeline.promise import promise_path, versions
from sevenfold.recipe import load_recipe, resolve_recipe_path
from sevenfold.recipe.shipped import recipe_paths
from sevenfold.runs.job import Job

LINE = "the root that the recipe promises:"


@pytest.fixture
def recipe(tmp_path: Path, dense_run: Job) -> Path:
    """A recipe file whose run in `tmp_path / "run"` is finished, so that
    making it again takes no time.
    """
    shutil.copytree(dense_run.out, tmp_path / "run")
    (tmp_path / "code").symlink_to(dense_run.recipe_dir / "code")
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(dense_run.recipe.resolved()))
    return path


def make(recipe: Path, *options: str) -> Any:
    return CliRunner().invoke(app, ["make", str(recipe), "--out", str(recipe.parent / "run"), *options])


def last_line(done: Any) -> str:
    return str(done.stdout.splitlines()[-1])


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_promise_is_written_kept_and_broken(recipe: Path) -> None:
    without = make(recipe)
    assert (without.exit_code, LINE in without.stdout) == (0, False)
    assert make(recipe, "--promise").exit_code == 0
    kept = make(recipe)
    assert (kept.exit_code, last_line(kept)) == (0, f"{LINE} yes")
    rewrite(promise_path(recipe), root="ab" * 32, versions=versions() | {"train": "0"})
    broken = make(recipe)
    assert broken.exit_code == 3
    assert last_line(broken) == f"{LINE} no, it promises {'ab' * 32}; other versions: train"
    # Another recipe beside it promises nothing.
    rewrite(promise_path(recipe), recipe="cd" * 32)
    assert LINE not in make(recipe).stdout
    assert make(recipe, "--promise", "--until", "train").exit_code == 2


def test_without_a_network_another_recipe_stands_in(
    recipe: Path, dense_run: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S7_PACKAGES", str(recipe.parent / "empty"))
    lock = {
        "lock": 1,
        "pypi": [{"name": "a", "version": "1", "file": "a-1-py3-none-any.whl", "sha256": "0" * 64}],
    }
    (recipe.parent / "x.lock.json").write_text(json.dumps(lock))
    pinned = dense_run.recipe.resolved()
    pinned["corpus"]["sources"] = [{"kind": "lock", "path": "x.lock.json"}]
    path = recipe.parent / "pinned.yaml"
    path.write_text(yaml.safe_dump(pinned))
    refused = make(path, "--offline")
    assert (refused.exit_code, "1 packages are not fetched: pypi:a 1" in refused.stderr) == (4, True)
    promise = {"promise": 1, "recipe": "", "root": "", "versions": {}, "without_network": recipe.name}
    promise_path(path).write_text(json.dumps(promise))
    done = make(path, "--offline")
    assert done.exit_code == 0
    assert last_line(done).startswith(f"{LINE} not compared, because this is tiny-dense")
    # A promise is of the recipe itself.
    assert make(path, "--offline", "--promise").exit_code == 4
    recipe.unlink()
    assert "stands in without a network is missing" in make(path, "--offline").stderr


@pytest.mark.parametrize(
    "changes",
    [{"promise": 2}, {"root": 1}, {"more": ""}, {"without_network": "../other.yaml"}, {"versions": []}],
)
def test_what_is_no_promise_is_refused(changes: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    good = {"promise": 1, "recipe": "", "root": "", "versions": {}, "without_network": ""}
    promise_path(path).write_text(json.dumps(good))
    assert pipeline.read_promise(path) is not None
    rewrite(promise_path(path), **changes)
    with pytest.raises(RecipeError, match="not a promise"):
        pipeline.read_promise(path)


def test_the_demo_promises_a_root_of_this_version() -> None:
    path = resolve_recipe_path("s7/demo-1m")
    promise = pipeline.read_promise(path)
    assert promise is not None
    remedy = "`s7 make s7/demo-1m --out out/demo --promise` makes the promise anew, in minutes"
    assert promise.applies_to(load_recipe(path)), remedy
    assert promise.versions == versions(), remedy
    assert len(bytes.fromhex(promise.root)) == 32
    other = load_recipe(pipeline.stand_in(path, promise))
    assert [source.kind for source in other.corpus.sources] == ["stdlib"]
    page = (path.parents[2] / "README.md").read_text()
    assert promise.root[:16] in page


def test_every_promise_is_beside_a_recipe() -> None:
    recipes: Callable[[], dict[str, Path]] = recipe_paths
    promised = {p for path in recipes().values() for p in path.parent.glob("*.root.json")}
    assert {promise_path(path) for path in recipes().values()} >= promised
    assert promised


def test_a_stand_in_has_to_be_there(tmp_path: Path) -> None:
    promise = pipeline.Promise(recipe_digest="", root="", versions={}, without_network="gone.yaml")
    with pytest.raises(StorageError, match=r"gone\.yaml"):
        pipeline.stand_in(tmp_path / "a.yaml", promise)
