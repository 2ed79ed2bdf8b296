"""The example programs, run as a reader would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sevenfold
from sevenfold.runs.job import Job

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))


def test_each_example_has_a_test() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "audit_a_model.py",
        "run.py",
        "train_your_own.py",
    }


@pytest.mark.subprocess
def test_run_completes_a_prompt(dense_run: Job) -> None:
    path = dense_run.out / "model.s7l"
    done = run("run.py", path, "def f(")
    with sevenfold.Model.open(path).session("def f(", max_tokens=40) as session:
        expected = "".join(session.generate(40))
    assert (done.returncode, done.stdout) == (0, f"def f({expected}\n"), done.stderr


@pytest.mark.subprocess
def test_run_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = run("run.py", tmp_path / "no.s7l", "def f(")
    assert done.returncode == 1
    assert "no.s7l" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.subprocess
def test_train_your_own_makes_a_verified_model(code_dir: Path, tmp_path: Path) -> None:
    program = (EXAMPLES / "train_your_own.py").read_text(encoding="utf-8")
    small = tmp_path / "small.py"
    # The same program with few tokens, so that the test takes seconds.
    small.write_text(program.replace("tokens: int = 400_000", "tokens: int = 20_480"), encoding="utf-8")
    assert small.read_text(encoding="utf-8") != program
    done = subprocess.run(
        [sys.executable, str(small), str(code_dir / "code"), "PSF-2.0", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "golden replay" in done.stdout


@pytest.mark.subprocess
def test_audit_says_the_same_bytes(dense_run: Job, code_dir: Path) -> None:
    assert (dense_run.out / "recipe.json").is_file()
    done = run("audit_a_model.py", dense_run.out)
    assert "file and golden logits: hold" in done.stdout, done.stderr
    assert "last steps trained again: same bytes" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_the_public_names_are_those_of_the_page() -> None:
    page = (EXAMPLES.parent / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    for name in sevenfold.__all__:
        assert getattr(sevenfold, name) is not None
        assert f"`{name}`" in page, name
    assert dir(sevenfold) == sorted(sevenfold.__all__)
    with pytest.raises(AttributeError):
        sevenfold.nothing  # noqa: B018 - the access is the test
