"""Weights from elsewhere (`model.pretrained`): their files, and the digest
that binds a recipe to them.

`s7 import` writes both files beside the recipe. The tokenizer stage and the train stage take them
instead of training.
"""

from __future__ import annotations

from pathlib import Path

from sevenfold.core.errors import StorageError
from sevenfold.core.hashing import digest, sha256_file
from sevenfold.core.run_files import TOKENIZER, WEIGHTS
from sevenfold.runs.job import Job


def pretrained_digest(directory: Path) -> str:
    """Return what `model.pretrained` says of the weights and vocabulary in a directory. Raises
    StorageError.
    """
    parts = (sha256_file(directory / WEIGHTS), sha256_file(directory / TOKENIZER))
    return f"sha256:{digest('sevenfold/pretrained/1', *parts)}"


def pretrained_file(job: Job, name: str) -> Path:
    """Return one of the two files, after both were found to be those that the recipe names. Raises
    StorageError.
    """
    found = pretrained_digest(job.recipe_dir)
    if found != job.recipe.model.pretrained:
        raise StorageError(
            f"the imported weights are {found}, the recipe names {job.recipe.model.pretrained}",
            where=str(job.recipe_dir),
            remedy="import them again",
        )
    return job.recipe_dir / name
