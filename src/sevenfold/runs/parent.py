"""The sealed model that a run begins with (`train.from` without a step), as files of the run.

`pipeline.parent` reads the sealed file and writes them; the stages `tokenizer` and `train` take them
from here. Each is compared with the digest that was written beside it.
"""

from __future__ import annotations

from pathlib import Path

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.files import read_json
from sevenfold.core.hashing import Json, sha256_file
from sevenfold.core.run_files import PARENT, PARENT_FACTS
from sevenfold.runs.job import Job


def parent_facts(job: Job) -> dict[str, Json]:
    """Return what is said of the parent: `root`, `files` (digests by name), `parents` (its lineage).

    Raises StorageError: the run has no parent yet, or another than its recipe names.
    """
    parent, path = job.recipe.train.parent, job.directory(PARENT) / PARENT_FACTS
    if parent is None:
        raise UsageError("the recipe begins with no sealed model", where="train.from")
    said = read_json(path) if path.is_file() else None
    if not isinstance(said, dict) or said.get("root") != parent.root or not isinstance(said["files"], dict):
        raise StorageError(
            f"the weights of {parent.name} with the root {parent.root} are not in this run",
            where=str(path),
            remedy="run the stage again with `s7 make`, which takes them from the sealed file",
        )
    return said


def parent_file(job: Job, name: str) -> Path:
    """Return the path of a file of the parent after comparing its bytes. Raises StorageError."""
    path, expected = job.directory(PARENT) / name, parent_facts(job)["files"].get(name)
    if not path.is_file() or sha256_file(path) != expected:
        raise StorageError(
            "it is missing, or its bytes are not those of the sealed model",
            where=str(path),
            remedy="run the stage again with `s7 make`, which takes it from the sealed file",
        )
    return path
