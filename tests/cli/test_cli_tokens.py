"""`s7 tokenizer-report`: figures, the table and picture of two, and files that
are not what they should be.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sevenfold.core.documents import write_documents
from sevenfold.core.errors import StorageError, UsageError
from sevenfold.recipe.schema import TokenizerSpec
from sevenfold.runs.job import Job
from sevenfold.tokenizer.train import train_tokenizer

pytestmark = pytest.mark.subprocess


def report(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sevenfold.cli", "tokenizer-report", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def refused(code: int, *args: object) -> str:
    done = report(*args)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("s7: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def files(dense_run: Job, tmp_path: Path) -> tuple[Path, Path, Path]:
    """A run's tokenizer, another one, and the run's held-out documents."""
    texts = [path.read_text() for path in sorted(dense_run.recipe_dir.rglob("*.py"))]
    (tmp_path / "other.json").write_bytes(train_tokenizer(texts, TokenizerSpec(vocab_size=300)))
    return (
        dense_run.directory("tokenizer") / "tokenizer.json",
        tmp_path / "other.json",
        dense_run.directory("corpus") / "heldout.parquet",
    )


def test_two_side_by_side(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    one, other, holdout = files
    done = report(one, holdout, "--against", other, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    value: dict[str, Any] = json.loads(done.stdout)
    assert value == json.loads((tmp_path / "out" / "report.json").read_text())
    a, b = (value["figures"][str(path)] for path in (one, other))
    assert a["all"]["round_trip"] == b["all"]["round_trip"] == 1.0
    assert {"mean_tokens", "share_whole", "mean_tokens_of_compound"} <= a["identifiers"].keys()
    assert {"bytes_per_token", "tokens_per_line", "fertility", "oov"} <= a["extensions"]["py"].keys()
    rows = {(row["group"], row["figure"]): row for row in value["comparison"]}
    assert (
        rows["all", "bytes_per_token"]["b_over_a"] < 1 < rows["extension py", "tokens_per_line"]["b_over_a"]
    )
    states = {row["target"]: row["state"] for row in value["targets"]}
    assert states["round trip of bytes"] == "met"
    assert states["bytes/token on code"] == "not met"
    assert (tmp_path / "out" / "report.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    shown = report(one, holdout, "--against", other).stdout
    assert "B / A" in shown
    assert "targets of C2" in shown
    alone = json.loads(report(one, holdout, "--json").stdout)
    assert alone["comparison"] is None
    assert {row["state"] for row in alone["targets"]} >= {"not measured"}


def test_files_that_are_not_what_they_should_be(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    one, _, holdout = files
    usage, storage = UsageError.exit_code, StorageError.exit_code
    cut, empty, cut_holdout = tmp_path / "cut.json", tmp_path / "empty.parquet", tmp_path / "cut.parquet"
    cut.write_bytes(one.read_bytes()[:-40])
    write_documents(empty, [])
    cut_holdout.write_bytes(holdout.read_bytes()[:-40])
    for code, says, args in (
        (storage, "not a tokenizer that this version reads", (holdout, holdout)),
        (storage, "not a tokenizer that this version reads", (cut, holdout)),
        (storage, "not a tokenizer that this version reads", (one, holdout, "--against", cut)),
        (storage, "no such file", (tmp_path / "none.json", holdout)),
        (storage, "no such file", (one, tmp_path / "none.parquet")),
        (storage, "no documents to measure on", (one, empty)),
        (storage, "cut.parquet", (one, cut_holdout)),
        (storage, "tokenizer.json", (one, one)),
        (usage, "the two tokenizers are the same file", (one, holdout, "--against", one)),
    ):
        assert says in refused(code, *args), args
