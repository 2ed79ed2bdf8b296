"""Models by name: found in an index, opened from the command line and from Python, refused by name."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest
from typer.testing import CliRunner

import sevenfold
from sevenfold.cli import app
from sevenfold.core import shipped_models
from sevenfold.core.errors import StorageError
from sevenfold.core.run_files import ARTIFACT
from sevenfold.core.shipped_models import DIRECTORY, INDEX, model_path
from sevenfold.runs.job import Job

ROOT = Path(__file__).resolve().parents[2]
Change = Callable[..., None]


@pytest.fixture
def shelf(tmp_path: Path, finished_run: Job, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with one model, named by the variable; the working directory is empty."""
    directory = tmp_path / "shelf"
    directory.mkdir()
    shutil.copyfile(finished_run.out / ARTIFACT, directory / "tiny.s7l")
    root = sevenfold.Model.open(directory / "tiny.s7l").artifact.root
    row = {
        "name": "tiny-8m", "file": "tiny.s7l", "root": root,
        "n_bytes": (directory / "tiny.s7l").stat().st_size,
        "licence": "Apache-2.0", "summary": "a test", "figures": {"bits per byte": 4.5},
    }  # fmt: skip
    (directory / INDEX).write_text(json.dumps({"index": 1, "models": [row]}))
    monkeypatch.setenv(DIRECTORY, str(directory))
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    return directory


def s7(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.output


def test_every_verb_that_takes_a_file_takes_the_name(shelf: Path) -> None:
    assert model_path("tiny-8m") == shelf / "tiny.s7l"
    assert sevenfold.Model.open("tiny-8m").artifact.path == shelf / "tiny.s7l"
    for words in (
        ("run", "tiny-8m", "def f"),
        ("verify", "tiny-8m"),
        ("inspect", "tiny-8m"),
        ("lineage", "tiny-8m"),
    ):
        code, text = s7(*words)
        assert code == 0, text
    assert "same: root" in s7("diff", "tiny-8m", "tiny-8m")[1]
    code, text = s7("model-card", "tiny-8m")
    assert code == 0, text
    assert any(path.suffix == ".md" for path in shelf.iterdir()), (
        "papers lie beside the file, not beside the name"
    )


def test_the_list_says_name_root_and_figures(shelf: Path) -> None:
    code, text = s7("models", "--json")
    (row,) = json.loads(text)
    assert code == 0
    assert (row["name"], row["figures"]) == ("tiny-8m", {"bits per byte": 4.5})
    assert row["root"][:8] in s7("models")[1].replace("\n", "")
    index = json.loads((shelf / INDEX).read_text())
    index["models"][0]["root"] = "0" * 64
    (shelf / INDEX).write_text(json.dumps(index))
    code, text = s7("models")
    assert code == 3
    assert "the index says 000" in text


def test_an_unknown_name_is_refused_with_the_names(shelf: Path) -> None:
    for words in (("run", "code-9m", "x"), ("verify", "code-9m"), ("audit", "code-9m", "--full")):
        code, text = s7(*words)
        assert code == 4, text
        assert "no model that ships has this name (models: tiny-8m)" in text
    with pytest.raises(StorageError, match="models: tiny-8m"):
        sevenfold.Model.open("code-9m")
    Path("tiny-8m").write_bytes(b"a file goes first")
    assert model_path("tiny-8m") == Path("tiny-8m")
    assert model_path("sub/tiny-8m") == Path("sub/tiny-8m")


@pytest.mark.parametrize(
    "text", ["[]", '{"index": 2, "models": []}', '{"index": 1, "models": [{"name": "x"}]}']
)
def test_an_index_of_another_form_is_refused(shelf: Path, text: str) -> None:
    (shelf / INDEX).write_text(text)
    with pytest.raises(StorageError, match="not an index of models of format 1"):
        model_path("tiny-8m")


def test_a_row_cannot_name_a_file_elsewhere(shelf: Path, tmp_path: Path) -> None:
    index = json.loads((shelf / INDEX).read_text())
    index["models"][0]["file"] = "../../secret"
    (shelf / INDEX).write_text(json.dumps(index))
    assert model_path("tiny-8m") == shelf / "secret"


def test_without_models_a_path_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match="no models are installed"):
        model_path("code-8m")


def test_what_the_front_pages_say_is_what_lies_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DIRECTORY, raising=False)
    monkeypatch.setattr(shipped_models, "find_spec", lambda _name: None)
    page = (ROOT / "models" / "README.md").read_text()
    for model in shipped_models.shipped_models().values():
        assert model.path.stat().st_size == model.n_bytes
        assert sevenfold.Model.open(model.path).artifact.root == model.root
        assert f"`{model.root}`" in page
        assert model.root in (ROOT / "README.md").read_text()


def test_a_run_is_put_on_the_shelf_with_its_papers(finished_run: Job, tmp_path: Path) -> None:
    module = runpy.run_path(str(ROOT / "scripts" / "ship_model.py"))
    row = module["ship"](finished_run.out, tmp_path, {"bits per byte": "4.5"})
    assert row.keys() == shipped_models._KEYS
    assert (tmp_path / row["file"]).read_bytes() == (finished_run.out / ARTIFACT).read_bytes()
    names = {path.name for path in (tmp_path / row["name"]).iterdir()}
    assert any(name.endswith(".md") for name in names), names
    (tmp_path / "again").mkdir()
    with pytest.raises(SystemExit, match="holds no sealed model"):
        module["ship"](tmp_path / "again", tmp_path, {})
    lines = module["table"]([row]).splitlines()
    assert lines[-1] == f"| `{row['name']}` | {row['n_bytes']:,} | `{row['root']}` |"


@pytest.mark.slow
@pytest.mark.subprocess
def test_the_wheel_of_models_holds_them_and_they_are_found_there(tmp_path: Path) -> None:
    source = Path(shutil.copytree(ROOT / "models", tmp_path / "models"))
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, source]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = tmp_path.glob("*.whl")
    with ZipFile(made) as wheel:
        wheel.extractall(tmp_path / "site")
    package = tmp_path / "site" / "sevenfold_models"
    for row in json.loads((package / INDEX).read_text())["models"]:
        code = f"from sevenfold.core.shipped_models import model_path; print(model_path({row['name']!r}))"
        environment = {k: v for k, v in os.environ.items() if k != DIRECTORY}
        environment["PYTHONPATH"] = f"{tmp_path / 'site'}:{ROOT / 'src'}"
        found = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.strip() == str(package / row["file"])
