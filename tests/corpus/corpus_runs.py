"""A small corpus with something of everything, and its stage in a process of its own."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from sevenfold.core.documents import read_rows
from sevenfold.core.manifest import hash_outputs, output_root
from sevenfold.corpus import native
from sevenfold.corpus.ledger import LEDGER_COLUMNS
from sevenfold.corpus.stage import FINDING_COLUMNS, run
from sevenfold.runs.job import Job

MakeJob = Callable[..., Job]
STEPS: dict[str, Any] = {
    "lines": {"min_alphabetic": 0.1},
    "drop": ["generated", "vendored"],
    "syntax": ["python"],
    "secrets": "redact",
    "personal": "redact",
    "quality": True,
    "near_duplicates": {},
    "domains": [{"domain": "prose", "languages": ["markdown"]}],
}
SOURCES = [
    {"kind": "directory", "path": name, "licence": "MIT", "include": ["**/*.py", "**/*.md"]}
    for name in ("a", "b")
]
# What a job is in a process of its own: `python -c DRIVER recipe.yaml out workers part_bytes`.
DRIVER = """
import sys
from pathlib import Path
from sevenfold.core.manifest import hash_outputs, output_root
from sevenfold.corpus import shards
from sevenfold.corpus.stage import run
from sevenfold.recipe import load_recipe
from sevenfold.runs.job import Job
if __name__ == "__main__":
    recipe, out, workers, part_bytes = sys.argv[1:]
    shards.PART_BYTES = int(part_bytes)
    job = Job(recipe=load_recipe(Path(recipe)), out=Path(out), recipe_dir=Path(recipe).parent,
              workers=workers if workers == "ray" else int(workers))
    print(output_root(hash_outputs(job.directory("corpus"), run(job).outputs)))
"""


def program(rng: random.Random, n: int = 12) -> str:
    """Functions that are like no others."""
    names = [f"value_{rng.randrange(5000)}" for _ in range(n)]
    return "\n".join(
        f"def {name}(left, right):\n    return left * {i} + right - {name[6:]}\n"
        for i, name in enumerate(names)
    )


def plant(base: Path, n: int = 60, seed: int = 5) -> None:
    """Two sources with programs, near copies across them, exact copies, prose,
    secrets, and things to drop.
    """
    rng = random.Random(seed)
    for number in range(n):
        text = program(rng)
        files = {f"a/f{number}.py": text}
        if number % 5 == 0:
            files[f"b/near{number}.py"] = text + "\n# one more remark\n"
        if number % 7 == 0:
            files[f"b/copy{number}.py"] = text
        if number % 6 == 0:
            files[f"b/mail{number}.py"] = program(rng) + f"\n# by person{number}@mail.org\n"
        if number % 10 == 0:
            files[f"b/bad{number}.py"] = text + "def broken(:\n"
            files[f"b/vendor/v{number}.py"] = program(rng)
            files[f"a/page{number}.md"] = " ".join(f"word{rng.randrange(900)}" for _ in range(120)) + "\n"
        for name, content in files.items():
            (base / name).parent.mkdir(parents=True, exist_ok=True)
            (base / name).write_text(content)


def root_of(job: Job) -> str:
    """Run the stage here; its root."""
    return output_root(hash_outputs(job.directory("corpus"), run(job).outputs))


def with_and_without_library(
    make: Callable[[str], Job], forget: Sequence[Any], patch: pytest.MonkeyPatch
) -> list[tuple[str, dict[str, Any]]]:
    """Root and facts of `make("with")`, and of `make("without")` where
    native/corpus is not to be found.

    `forget`: cached functions that remember what they had from the library.
    """
    said = []
    for out, library in (("with", native.LIBRARY), ("without", Path("none.so"))):
        patch.setattr(native, "LIBRARY", library)
        for cached in forget:
            cached.cache_clear()
        job = make(out)
        facts = run(job).facts
        names = ["train.parquet", "heldout.parquet", "ledger.parquet", "findings.parquet"]
        said.append((output_root(hash_outputs(job.directory("corpus"), names)), dict(facts)))
    patch.undo()
    for cached in forget:
        cached.cache_clear()
    return said


def ledger(job: Job) -> list[dict[str, Any]]:
    """Rows of the ledger."""
    rows = read_rows(job.directory("corpus") / "ledger.parquet", LEDGER_COLUMNS)
    return [dict(zip(LEDGER_COLUMNS, row, strict=True)) for row in rows]


def findings(job: Job) -> list[dict[str, Any]]:
    """Rows of what the steps found."""
    rows = read_rows(job.directory("corpus") / "findings.parquet", FINDING_COLUMNS)
    return [dict(zip(FINDING_COLUMNS, row, strict=True)) for row in rows]


def start(
    job: Job, tmp_path: Path, n_workers: object, part_bytes: int = 4000, **options: Any
) -> subprocess.Popen[str]:
    """The stage in a process of its own, which prints the root."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(job.recipe.resolved()))
    (tmp_path / "driver.py").write_text(DRIVER)
    command = [
        sys.executable,
        str(tmp_path / "driver.py"),
        str(recipe),
        str(job.out),
        str(n_workers),
        str(part_bytes),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def assert_nobody_is_left(session: int) -> None:
    """Every process of a session has ended, or ends within a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("a worker outlived its parent")
